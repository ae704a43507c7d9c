"""Reads a page as a browser does, as far as the tests need it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

ADDRESSES = {
    "src",
    "href",
    "xlink:href",
    "srcset",
    "poster",
    "action",
    "formaction",
    "data",
    "background",
    "cite",
    "ping",
}

RANKS = ("h1", "h2", "h3")


@dataclass
class Page:
    """What a page holds."""

    tags: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    figures: dict[str, tuple[float, str]] = field(default_factory=dict)
    """data-figure -> (value, shown text)."""
    table_rows: dict[str, int] = field(default_factory=dict)
    """Id of a table -> rows of its body."""
    heading_lengths: dict[str, int] = field(default_factory=dict)
    """Heading -> characters of text until the next heading of its rank or a higher one."""
    text: str = ""
    succeeded: str | None = None


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self.figure: tuple[str, float] | None = None
        self.table: str | None = None
        self.in_body = False
        self.headings: dict[str, str] = {}
        self.open_heading: str | None = None
        self.silent = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attributes}
        self.page.tags.append(tag)
        self.page.addresses += [value for name, value in named.items() if name in ADDRESSES]
        self.page.ids += [named["id"]] if "id" in named else []
        self.page.succeeded = named.get("data-succeeded", self.page.succeeded)
        self.silent += tag in ("style", "script")
        if tag == "data" and "data-figure" in named:
            self.figure = (named["data-figure"], float(named["value"]))
        if tag == "table":
            self.table = named.get("id", f"table-{len(self.page.table_rows)}")
            self.page.table_rows[self.table] = 0
        self.in_body |= tag == "tbody"
        if tag == "tr" and self.in_body and self.table:
            self.page.table_rows[self.table] += 1
        if tag in RANKS:
            self.open_heading = tag
            self.headings = {rank: text for rank, text in self.headings.items() if rank < tag} | {tag: ""}

    def handle_endtag(self, tag: str) -> None:
        self.silent -= tag in ("style", "script")
        self.in_body &= tag != "tbody"
        if tag == self.open_heading:
            self.page.heading_lengths[self.headings[tag]] = 0
            self.open_heading = None

    def handle_data(self, data: str) -> None:
        if self.silent:
            return
        self.page.text += data
        if self.figure:
            name, value = self.figure
            self.page.figures[name], self.figure = (value, data), None
        if self.open_heading:
            self.headings[self.open_heading] += data
        else:
            for heading in self.headings.values():
                self.page.heading_lengths[heading] += len(data.strip())


def read_page(text: str) -> Page:
    """Parse a page."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader.page
