"""Write `example.env` from the declared settings: `python -m config._example`."""

from __future__ import annotations

from pathlib import Path

from config.settings import describe_settings

EXAMPLE = Path(__file__).with_name("example.env")

_HEAD = """\
# Every setting and its default, made by `python -m config._example` from config/settings.py.
# Copy what you change to a file named .env in the directory that you start from; the environment goes before it.
"""


def render() -> str:
    """Return the file's text: each setting's meaning, then `NAME=default`; loaded unchanged, it changes nothing."""
    lines = [_HEAD]
    for name, default, meaning in describe_settings():
        if meaning:
            lines.append(f"# {meaning}")
        lines.append(f"{name}={_quoted(default)}\n")
    return "\n".join(lines)


def _quoted(value: str) -> str:
    return f'"{value}"' if any(character in value for character in " #<>'") else value


if __name__ == "__main__":
    EXAMPLE.write_text(render())
