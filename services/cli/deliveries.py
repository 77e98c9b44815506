"""`darkroom deliveries` and `redeliver`: the webhooks of a Darkroom that runs somewhere."""

import json
from collections.abc import Mapping

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli.client import Delivery, connect

_STYLES = {"delivered": "green", "failed": "red"}


async def show(base_url: str, filters: Mapping[str, str], limit: int) -> None:
    """Prints a table in a terminal; elsewhere one line per delivery with tabs between its cells, none of them cut."""
    async with connect(base_url) as client:
        shown = [
            Delivery.model_validate(found) async for page in client.deliveries(filters, limit=limit) for found in page
        ]
    console = Console()
    if console.is_terminal:
        console.print(_table(shown))
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
    """Has all sent again that have ended, of those that the filters leave; tells of each part of very many."""
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
    for column in table.columns:
        column.overflow = "fold"
    for delivery in shown:
        time, state, *rest = _cells(delivery)
        table.add_row(time, Text(state, style=_STYLES.get(state, "")), *(Text(cell) for cell in rest))
    return table


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
