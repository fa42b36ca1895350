"""Re-export the pipeline's asset classes. The rules are `schemas._symbols`: bodies are checked by them, too."""

from schemas._symbols import CATEGORY_OF, asset_category, describe_assets, normalise_symbol
from schemas._vocabulary import AssetCategory

__all__ = ["CATEGORY_OF", "AssetCategory", "asset_category", "describe_assets", "normalise_symbol"]
