"""ARCHITECTURE.md, the glossary and the other documents name files that exist; a domain has one name in every layer."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support.services import REPOSITORY
from tools.count_any import source_files

ARCHITECTURE = (REPOSITORY / "ARCHITECTURE.md").read_text()
LAYERS = ("schemas", "db", "actors", "handlers")
NOT_DOMAINS = {"__init__", "streams"}  # and what begins with an underscore
DASH = "–"
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
_PATH = re.compile(r"`([\w./-]+/|[\w./-]+/[\w.-]+\.py|run\.py)`")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def table(heading: str) -> list[list[str]]:
    """The cells, without backticks, of the one table whose first column is called `heading`."""
    (rows,) = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", ARCHITECTURE, re.MULTILINE)
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows.splitlines()]


DOMAINS = {domain: dict(zip(LAYERS, cells, strict=False)) for domain, *cells in table("Domain")}


def is_domain(path: Path) -> bool:
    """Return whether a file or package of a layer is a domain: plumbing begins with an underscore."""
    return (path.suffix == ".py" or (path / "__init__.py").exists()) and not (
        path.name.startswith("_") or path.stem in NOT_DOMAINS
    )


def test_the_table_of_layers_names_what_exists() -> None:
    layers = [name for name, *_ in table("Layer")]
    assert set(LAYERS) < {name.strip("/") for name in layers}
    assert [name for name in layers if not (REPOSITORY / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_document_names_and_links_to_what_exists(document: Path) -> None:
    text = document.read_text()
    paths = [path for path in _PATH.findall(text) if not path.startswith("/") and "NNNN" not in path]
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    assert [link for link in _LINK.findall(text) if not (document.parent / link).exists()] == []


def test_the_places_and_terms_are_read() -> None:
    """The kind: a pattern that no longer matches, so that nothing is checked."""
    (places,) = re.findall(r"^One place each: .*?\n\n", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    assert len(_PATH.findall(places)) >= 10
    terms = (REPOSITORY / "docs" / "glossary.md").read_text().splitlines()
    assert [line for line in terms if line.startswith("| **") and not _PATH.search(line)] == []


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_has_one_name_in_every_layer(domain: str) -> None:
    for layer, cell in DOMAINS[domain].items():
        if cell == DASH:
            assert [path for path in (REPOSITORY / layer).rglob(f"{domain}*") if path.stem == domain] == [], "a dash"
        else:
            assert cell.startswith(f"{layer}/"), cell
            assert Path(cell).stem == domain, cell
            assert (REPOSITORY / cell).exists(), cell


def test_every_domain_of_the_handlers_is_in_the_table() -> None:
    assert {path.stem for path in (REPOSITORY / "handlers").iterdir() if is_domain(path)} <= DOMAINS.keys()


def test_the_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name[:4]) for path in sorted((REPOSITORY / "docs" / "adr").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_class_name_means_one_thing() -> None:
    """The kind: two classes of one name, which a reader confuses."""
    found = Counter(
        node.name
        for path in source_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and node.name != "Meta"  # marshmallow's own name, inside of a schema
    )
    assert {name for name, count in found.items() if count > 1} == set(), "rename one of the two"
