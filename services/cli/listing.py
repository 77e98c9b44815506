"""A list in a terminal: a framed table where it fits, and plain lines where not."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNLIMITED = 100_000  # columns; rich measures no table wider than it is allowed to be


def print_list(console: Console, table: Table, lines: Iterable[Text]) -> None:
    """Prints `table`, or `lines` in its stead where the terminal is too narrow for it.

    An id or a URL folded in its cell cannot be copied. A line stays one, however long; the terminal wraps it.
    """
    needed = console.measure(table, options=console.options.update(max_width=_UNLIMITED)).maximum
    if needed <= console.width:
        console.print(table)
        return
    for line in lines:
        console.print(line, soft_wrap=True)
