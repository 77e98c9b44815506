"""Shows how a request gets on: a live bar in a terminal, lines elsewhere."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from services.cli.amounts import saving, size
from services.cli.client import Client, Status, UnreachableError

_ABSENCE_SECONDS = 30.0
_LINE_EVERY = 0.1  # of the images


class Display(Protocol):
    """Takes what is known of a request each time it was asked for."""

    def show(self, status: Status) -> None:
        """Shows it, if there is anything new."""


async def watch(client: Client, request_id: str, console: Console, *, every_seconds: float = 0.25) -> Status:
    """Shows the progress of a request on `console` until it is final, and gives what it came to.

    Goes on over a short absence of Darkroom, such as a restart.

    Raises:
        ClientError: Darkroom does not know the request, or has not answered for half a minute.
    """
    answered = time.monotonic()
    with _display(console) as display:
        while True:
            try:
                status = await client.status(request_id)
            except UnreachableError:
                if time.monotonic() - answered > _ABSENCE_SECONDS:
                    raise
            else:
                answered = time.monotonic()
                display.show(status)
                if status.is_final:
                    return status
            await asyncio.sleep(every_seconds)


@contextmanager
def _display(console: Console) -> Iterator[Display]:
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn("{task.description}"),
        TextColumn("{task.fields[saved]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress)


class _RateColumn(TextColumn):
    def render(self, task: Task) -> Text:
        """Images per second; over the last ones while it runs, over all of them at the end."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} images/s" if speed else "")


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("waiting", total=None, saved="")

    def show(self, status: Status) -> None:
        self._progress.update(
            self._task,
            description=status.status.replace("_", " "),
            total=status.total,
            completed=status.finished,
            saved=_saved(status),
        )


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._status = ""
        self._finished = 0

    def show(self, status: Status) -> None:
        if status.status == self._status and status.finished - self._finished < _LINE_EVERY * status.total:
            return
        self._status, self._finished = status.status, status.finished
        line = f"{status.status}: {status.finished} of {status.total} images"
        if status.finished:
            rate = status.finished / max(time.monotonic() - self._began, 0.001)
            line += f", {rate:.1f} images/s, {_saved(status)}"
        self._console.out(line, highlight=False)


def _saved(status: Status) -> str:
    return f"{size(status.bytes_in - status.bytes_out)} saved ({saving(status.bytes_in, status.bytes_out)})"
