"""Rows of text, made to fit: with rich on a terminal, plain and aligned everywhere else.

Owns the choice between the two, the width, and what is left out when it does not suffice. Must not know what the rows
mean, but for the few words that have a colour. Begin at `write`.
"""

import json
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import click
import orjson

GAP = 2
"""Blanks between columns, in both forms."""

STYLES = {"allow": "green", "deny": "red", "if": "yellow", "+": "green", "-": "red", "?": "yellow", "yes": "green"}
"""Words that have a colour on a terminal."""


_OBEYED = re.compile("[\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""What orjson leaves in a text as it is and a terminal may obey, or not show: controls (xterm takes U+009B for an escape), and
what turns the direction of writing."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of equal length under a header. `notes` are lines behind the table; `empty` stands for no rows."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    empty: str
    notes: tuple[str, ...] = ()

    def without(self, column: str) -> "Table":
        """The same table without one column."""
        at = self.header.index(column)
        rows = tuple(row[:at] + row[at + 1 :] for row in self.rows)
        return replace(self, header=self.header[:at] + self.header[at + 1 :], rows=rows)


def write(candidates: Sequence[Table]) -> None:
    """Writes the first of the tables (given from the widest to the narrowest) that fits; else the last one, cut."""
    width = available_width()
    candidates = [_printable(table) for table in candidates]
    table = next((each for each in candidates if _fits(each, width)), candidates[-1])
    if not table.rows:
        click.echo(table.empty)
    elif is_terminal():
        _write_rich(cut(table, width), width)
    else:
        click.echo("\n".join(plain_lines(cut(table, width), width)))


def is_terminal() -> bool:
    """Whether standard output is read by a person on a terminal that can do more than letters."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def available_width() -> int | None:
    """The columns that a line may have: the terminal's, in a pipe only what COLUMNS asks for, None for any."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        # Imported here: it brings three kinds of compression along, which who serves need not have.
        import shutil

        return shutil.get_terminal_size().columns
    return None


def cut(table: Table, width: int | None) -> Table:
    """The table with its widest columns shortened, so that no line is longer than `width`."""
    if _fits(table, width) or width is None:
        return table
    widths = _widths(table)
    spare = sum(widths) + GAP * (len(widths) - 1) - width
    while spare > 0 and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
        spare -= 1
    rows = tuple(tuple(map(shorten, row, widths)) for row in table.rows)
    return replace(table, header=tuple(map(shorten, table.header, widths)), rows=rows)


def shorten(text: str, width: int) -> str:
    """The text, or as much of it as fits before an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"


def printable(text: str) -> str:
    """The text without what a terminal would obey: names come from requests and certificates, so from strangers."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def printable_lines(text: str) -> str:
    """The same of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def json_text(value: object, option: int = 0) -> str:
    """A value as JSON, of which no terminal obeys a character either; whoever reads it as JSON gets the same."""
    text = orjson.dumps(value, default=str, option=option).decode()
    return text if _OBEYED.search(text) is None else _OBEYED.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def plain_lines(table: Table, width: int | None) -> list[str]:
    """Aligned lines without colour and box drawing."""
    widths = _widths(table)
    lines = [(" " * GAP).join(map(str.ljust, row, widths)).rstrip() for row in (table.header, *table.rows)]
    return [*lines, *_notes(table, width)]


def _printable(table: Table) -> Table:
    return replace(table, rows=tuple(tuple(map(printable, row)) for row in table.rows))


def _fits(table: Table, width: int | None) -> bool:
    return width is None or sum(_widths(table)) + GAP * (len(table.header) - 1) <= width


def _widths(table: Table) -> list[int]:
    return [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]


def _notes(table: Table, width: int | None) -> list[str]:
    if not table.notes:
        return []
    lines = (textwrap.wrap(note, width or len(note), break_on_hyphens=False) for note in table.notes)
    return ["", *(line for wrapped in lines for line in wrapped)]


def _write_rich(table: Table, width: int | None) -> None:
    # Imported here, since a pipe never needs it and it would cost every command a tenth of its time.
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    console = Console(width=width, color_system=colours, highlight=False)
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    for title in table.header:
        drawn.add_column(Text(title), no_wrap=True)
    for row in table.rows:
        drawn.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    console.print(drawn)
    for line in _notes(table, width):
        console.print(Text(line))
