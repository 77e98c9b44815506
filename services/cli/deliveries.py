"""`darkroom deliveries` and `redeliver`: the webhooks of a Darkroom that runs somewhere."""

import json
from collections.abc import Mapping

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli.client import Delivery, connect
from services.cli.listing import print_list

_STYLES = {"delivered": "green", "failed": "red"}


async def show(base_url: str, filters: Mapping[str, str], limit: int) -> None:
    """Prints a list in a terminal; elsewhere one line per delivery with tabs between its cells, none of them cut.

    Says on standard error when there are none, so that what reads the lines gets none.
    """
    async with connect(base_url) as client:
        shown = [
            Delivery.model_validate(found) async for page in client.deliveries(filters, limit=limit) for found in page
        ]
    if not shown:
        click.echo("There are no such deliveries." if filters else "There are no deliveries.", err=True)
        return
    console = Console()
    if console.is_terminal:
        print_list(console, _table(shown), [line for delivery in shown for line in _lines(delivery)])
        return
    for delivery in shown:
        click.echo("\t".join(_cells(delivery)))


async def show_json(base_url: str, filters: Mapping[str, str], limit: int) -> None:
    """Prints what is known of each, as the interface tells it."""
    async with connect(base_url) as client:
        found = [delivery async for page in client.deliveries(filters, limit=limit) for delivery in page]
    click.echo(json.dumps({"deliveries": found}, ensure_ascii=False))


async def redeliver(base_url: str, delivery_id: str) -> None:
    """Has one sent again."""
    async with connect(base_url) as client:
        redelivered = await client.redeliver(delivery_id)
    if redelivered.queued:
        click.echo(f"Delivery {delivery_id} is queued again.")
    else:
        click.echo(f"Delivery {delivery_id} is {redelivered.state} already; nothing was changed.")


async def redeliver_some(base_url: str, filters: Mapping[str, str]) -> None:
    """Has all sent again that the filters leave and that can be; tells of each part of very many."""
    queued = 0
    async with connect(base_url) as client:
        answer = await client.redeliver_some(filters)
        queued += answer.queued
        while answer.next is not None:
            click.echo(f"{queued} deliveries are queued again so far.", err=True)
            answer = await client.redeliver_some(filters, answer.next)
            queued += answer.queued
    click.echo(f"{queued} {'delivery is' if queued == 1 else 'deliveries are'} queued again.")


def _table(shown: list[Delivery]) -> Table:
    table = Table("Time", "State", "Event", "Endpoint", "Tries", "Last", "Delivery")
    for delivery in shown:
        time, state, *rest = _cells(delivery)
        table.add_row(time, _styled(state), *(Text(cell) for cell in rest))
    return table


def _lines(delivery: Delivery) -> tuple[Text, Text]:
    """The first has 80 columns at most: an id is 36 long, the longest event 29."""
    time, state, event, url, tries, last, delivery_id = _cells(delivery)
    made = f"{tries} {'try' if tries == '1' else 'tries'}{last and f', last {last}'}"
    return Text.assemble(delivery_id, "  ", _styled(state), "  ", event), Text(f"  {time}  {made}  {url}")


def _styled(state: str) -> Text:
    return Text(state, style=_STYLES.get(state, ""))


def _cells(delivery: Delivery) -> tuple[str, ...]:
    last = delivery.last_attempt
    return (
        delivery.created_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        delivery.state,
        delivery.event,
        delivery.url,
        str(delivery.attempts_made),
        (last.error or str(last.status)) if last else "",
        delivery.id,
    )
