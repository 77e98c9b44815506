"""`darkroom submit`, `status` and `cancel`: one request of a Darkroom that runs somewhere."""

import sys
from collections.abc import Mapping
from pathlib import Path

import click
from pydantic import ValidationError
from rich.console import Console

from libs.imaging.options import RequestOptions
from services.cli.client import Status, connect
from services.cli.hint import hint
from services.cli.results import print_results, results
from services.cli.watching import watch


class OptionsError(Exception):
    """What was asked of the compression is not accepted; the message names the option and says what is."""


async def submit(
    base_url: str,
    csv: Path,
    webhook_url: str | None,
    compression: Mapping[str, str],
    *,
    wait: bool,
    rows: int,
    given_url: str | None = None,
) -> int:
    """Uploads `csv`; with `wait`, shows its progress and results. Gives the exit code.

    `given_url` is what `--url` was given, which the commands that it suggests need as well.

    Raises:
        OptionsError: `compression`, options by name, is not accepted; nothing was sent.
    """
    _check(compression)
    async with connect(base_url) as client:
        request_id = await client.upload(csv, webhook_url, compression)
        click.echo(f"Request {request_id} is accepted.")
        if not wait:
            click.echo(f"See how it gets on: {hint('status', request_id, url=given_url)}")
            return 0
        console = Console()
        status = await watch(client, request_id, console)
        print_results(console, await results(client, status, rows), status, given_url)
        click.echo(_summary(status))
        return 0 if status.is_all_well else 1


async def show(base_url: str, request_id: str, rows: int, given_url: str | None = None) -> None:
    """Prints how a request stands, and its first rows; `given_url` is as in `submit`."""
    async with connect(base_url) as client:
        status = await client.status(request_id)
        print_results(Console(), await results(client, status, rows), status, given_url)
        click.echo(_summary(status))


async def show_json(base_url: str, request_id: str) -> None:
    """Passes the whole answer on to standard output."""
    async with connect(base_url) as client:
        async for piece in client.status_text(request_id):
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.write(b"\n")
    sys.stdout.flush()


async def cancel(base_url: str, request_id: str) -> None:
    """Cancels what has not finished."""
    async with connect(base_url) as client:
        click.echo(f"Request {request_id} is {await client.cancel(request_id)}.")


def _check(compression: Mapping[str, str]) -> None:
    try:
        RequestOptions.model_validate(compression)
    except ValidationError as error:
        [problem, *_] = error.errors(include_url=False)
        said = problem["msg"].removeprefix("Value error, ")
        raise OptionsError(": ".join([*(str(name) for name in problem["loc"][:1]), said])) from error


def _summary(status: Status) -> str:
    pending = status.total - status.finished
    return (
        f"Request {status.request_id} is {status.status}: of {status.total} images {status.completed} are compressed, "
        f"{status.failed} failed, {status.cancelled} were cancelled"
        f"{f', {pending} still pending' if pending else ''}."
    )
