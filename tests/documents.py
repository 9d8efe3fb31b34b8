"""The Markdown files of the repository, as their tests look at them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


class Document:
    """A Markdown file with headings of the second level."""

    def __init__(self, path: str) -> None:
        """`path` is relative to the repository."""
        self.path = ROOT / path
        self.text = self.path.read_text(encoding="utf-8")
        first, *others = re.split(r"^## (.*)\n", self.text, flags=re.MULTILINE)
        self.sections = {"": first, **dict(zip(others[::2], others[1::2], strict=True))}
        """By heading, "" for what stands before the first."""

    def blocks(self, heading: str, language: str = "python") -> list[str]:
        """The blocks of code below a heading."""
        pattern = rf"^```{language}\n(.*?)^```$"
        return re.findall(pattern, self.sections[heading], re.MULTILINE | re.DOTALL)

    def rows(self, heading: str) -> list[list[str]]:
        """The rows of the tables below a heading, as lists of cells, without their heads."""
        tables = re.findall(
            r"^\|.*\n\|[-|]+\|\n((?:\|.*\n)+)", self.sections[heading], re.MULTILINE
        )
        return [
            [cell.strip() for cell in line.strip("|").split(" | ")]
            for table in tables
            for line in table.splitlines()
        ]

    def links(self) -> list[str]:
        """Where the links lead, with the anchor."""
        return re.findall(r"\]\(([^)]+)\)", self.text)

    def anchors(self) -> set[str]:
        """What a link may name after "#"."""
        headings = re.findall(r"^#+ (.*)$", self.text, re.MULTILINE)
        return {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}

    def assert_links_lead_somewhere(self) -> None:
        """Every link of the repository's own names a file, and a heading that is in it."""
        for link in self.links():
            target, _, anchor = link.partition("#")
            if "//" in target:
                continue
            path = (self.path.parent / target).resolve() if target else self.path
            assert path.exists(), link
            if anchor:
                assert anchor in Document(str(path)).anchors(), link


def run(source: str, places: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a block, with places (paths, ports) replaced; its names."""
    for place, replacement in (places or {}).items():
        assert place in source
        source = source.replace(place, replacement)
    namespace: dict[str, Any] = {}
    exec(compile(source, "a block", "exec"), namespace)  # noqa: S102 - our own text
    return namespace
