"""The list of a request's results."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli.client import Client, Row, Status
from services.cli.hint import hint
from services.cli.listing import print_list

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Result:
    """One image: what it came to is a URL, the reason why it failed, or that it is still pending."""

    serial_number: int
    product_name: str
    url: str
    output: str
    failed: bool


async def results(client: Client, status: Status, rows: int) -> list[Result]:
    """The images of the first `rows` rows; then failed ones from further below, as many again at most."""
    first: list[Result] = []
    failures: list[Result] = []
    failures_left = status.failed
    async for number, row in _rows(client, status.request_id):
        of_row = list(_of(row))
        failures_left -= sum(result.failed for result in of_row)
        if number < rows:
            first += of_row
        else:
            failures += [result for result in of_row if result.failed]
        if number + 1 >= rows and (failures_left <= 0 or len(failures) >= rows):
            break
    return first + failures[:rows]


def print_results(console: Console, shown: list[Result], status: Status, given_url: str | None) -> None:
    """A list in a terminal; elsewhere one line per image with tabs between its cells, none of them cut.

    Says how all of them are seen if there are more; `given_url` is what `--url` was given.
    """
    if console.is_terminal:
        print_list(console, _table(shown), [line for result in shown for line in _lines(result)])
    else:
        for result in shown:
            cells = (str(result.serial_number), result.product_name, result.url, result.output)
            click.echo("\t".join(cells))  # not by rich, which makes spaces of tabs
    if status.total > len(shown):
        whole = hint("status", status.request_id, "--json", url=given_url)
        console.out(f"{len(shown)} of {status.total} images are shown; all of them: {whole}", highlight=False)


def _table(shown: list[Result]) -> Table:
    table = Table("S. No.", "Product", "Image", "Result")
    for result in shown:
        table.add_row(str(result.serial_number), Text(result.product_name), Text(result.url), _output(result))
    return table


def _lines(result: Result) -> tuple[Text, Text]:
    first = f"{result.serial_number}  {result.product_name}  {result.url}"
    return Text(first), Text.assemble("  ", _output(result))


def _output(result: Result) -> Text:
    return Text(result.output, style="red" if result.failed else "green")


async def _rows(client: Client, request_id: str) -> AsyncIterator[tuple[int, Row]]:
    offset = 0
    while page := (await client.status(request_id, offset=offset, limit=_PAGE)).details:
        for number, row in enumerate(page, start=offset):
            yield number, row
        offset += len(page)


def _of(row: Row) -> list[Result]:
    errors = {error.position: f"{error.code}: {error.detail}" for error in row.errors}
    name = " ".join(row.product_name.split())  # a quoted cell may have line breaks
    return [
        Result(row.serial_number, name, url, output or errors.get(position, "pending"), position in errors)
        for position, (url, output) in enumerate(zip(row.input_image_urls, row.output_image_urls, strict=True))
    ]
