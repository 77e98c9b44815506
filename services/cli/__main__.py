"""The `darkroom` command: `darkroom --help`, or `python -m services.cli --help`."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal, TypeVar, get_args, get_origin

import click

from libs.imaging.options import RequestOptions
from libs.runtime.settings import PREFIX, CommonSettings, InvalidSettingsError, known_names, load, unknown_names
from services.cli.extras import SERVICES, require
from services.cli.fleet import search_path, service_argv
from services.cli.moments import Moment


class CannotRunError(click.ClickException):
    """Something outside this command keeps it from running; the message is one sentence about it."""

    exit_code = 2


@contextmanager
def _one_sentence(*errors: type[Exception]) -> Iterator[None]:
    expected: tuple[type[Exception], ...] = (InvalidSettingsError, *errors)
    try:
        yield
    except expected as error:
        raise CannotRunError(str(error)) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="darkroom")
def main() -> None:
    """Bulk compression of product images: CSV in, smaller images and a signed webhook out."""


@main.command()
@click.option("--watchers", type=click.IntRange(1, 64), default=1, show_default=True, help="Watcher processes.")
@click.option("--notifiers", type=click.IntRange(1, 64), default=1, show_default=True, help="Notifier processes.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".darkroom"),
    show_default=True,
    help="Folder of the database, the images and the webhook secret.",
)
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the HTTP interface.  [default: DARKROOM_PORT]")
def up(watchers: int, notifiers: int, data_dir: Path, port: int | None) -> None:
    """Run everything on this machine until Ctrl-C.

    MongoDB is started too, unless MONGO_CONNECTION_STRING names one. A service that dies is started again. All data
    is kept. Of several watchers, the first has the port of DARKROOM_WATCHER_PORT if that is set, and the others take
    any free one; so it is with notifiers and DARKROOM_NOTIFIER_PORT.
    """
    require(*SERVICES)
    from libs.mongo import MongodFailedError, MongodNotFoundError  # noqa: PLC0415 (half a second)
    from services.cli.data_folder import DataFolder, DataFolderError  # noqa: PLC0415
    from services.cli.fleet import PortTakenError  # noqa: PLC0415
    from services.cli.settings import UpSettings  # noqa: PLC0415
    from services.cli.supervisor import ServiceBrokenError, ServiceRefusedError  # noqa: PLC0415
    from services.cli.up import Up  # noqa: PLC0415

    no_start = (MongodFailedError, MongodNotFoundError, PortTakenError, ServiceBrokenError, ServiceRefusedError)
    with _one_sentence(DataFolderError, *no_start):
        settings = load(UpSettings) if port is None else load(UpSettings, port=port)
        _warn_of_unknown_names()
        if sys.stderr.isatty() and not settings.is_set("log_format"):
            settings = settings.model_copy(update={"log_format": "console"})
        sys.exit(Up(settings, DataFolder(data_dir), watchers=watchers, notifiers=notifiers).run())


def _warn_of_unknown_names() -> None:
    known = {name.removeprefix(PREFIX): name for name in known_names()}
    for name in unknown_names():
        # The prefix that all share would count as likeness.
        near = get_close_matches(name.upper().removeprefix(PREFIX), known, n=1)
        hint = f"; did you mean {known[near[0]]}?" if near else "."
        click.echo(f"Warning: there is no setting {name}{hint}", err=True)


@main.command()
@click.option("--keep", is_flag=True, help="Keep the folder with database, images and logs.")
def demo(*, keep: bool) -> None:
    """Show the main job and check what comes out.

    From CSV to signed webhook, on this machine. Everything runs on free ports in a temporary folder; settings of the
    environment and .env do not count.
    """
    require("cli", *SERVICES)
    from libs.mongo import MongodFailedError, MongodNotFoundError  # noqa: PLC0415
    from services.cli.client import ClientError  # noqa: PLC0415
    from services.cli.demo import run_demo  # noqa: PLC0415
    from services.cli.supervisor import ServiceBrokenError, ServiceRefusedError  # noqa: PLC0415

    no_start = (MongodFailedError, MongodNotFoundError, ServiceBrokenError, ServiceRefusedError)
    with _one_sentence(ClientError, *no_start):
        sys.exit(run_demo(keep=keep))


_base_url = click.option(
    "--url", metavar="BASE", help="Where Darkroom is.  [default: from DARKROOM_PUBLIC_URL or PORT]"
)
_rows = click.option("--rows", type=click.IntRange(0), default=20, show_default=True, help="Rows to show.")


_Command = TypeVar("_Command", bound=Callable[..., None])


def _compression(command: _Command) -> _Command:
    """An option for each of `RequestOptions`; those given reach the command as keywords."""
    for name, field in reversed(RequestOptions.model_fields.items()):
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        default = f"  [default: {field.default}]" if field.default is not None else ""
        command = click.option(
            f"--{name.replace('_', '-')}",
            type=click.Choice(choices) if choices else str,
            metavar=None if choices else "X",
            help=f"{(field.description or '').replace('`', '')}{default}",
        )(command)
    return command


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE.csv")
@click.option("--webhook-url", metavar="U", help="Is called when the request is done.")
@_base_url
@click.option("--wait", is_flag=True, help="Show the progress, then the results; exit 1 if an image failed.")
@_rows
@_compression
def submit(
    file: Path, webhook_url: str | None, url: str | None, *, wait: bool, rows: int, **compression: str | None
) -> None:
    """Upload a CSV of products and image URLs, and say how the images are to be compressed."""
    asked = {name: value for name, value in compression.items() if value is not None}
    with _client() as requests, _one_sentence(requests.OptionsError):
        address = _address(url)
        submitted = requests.submit(address, file, webhook_url, asked, wait=wait, rows=rows, given_url=url)
        sys.exit(asyncio.run(submitted))


@main.command()
@click.argument("request_id", metavar="ID")
@_base_url
@click.option("--json", "as_json", is_flag=True, help="The whole answer as JSON.")
@_rows
def status(request_id: str, url: str | None, *, as_json: bool, rows: int) -> None:
    """Show how a request stands."""
    with _client() as requests:
        if as_json:
            asyncio.run(requests.show_json(_address(url), request_id))
        else:
            asyncio.run(requests.show(_address(url), request_id, rows, given_url=url))


@main.command()
@click.argument("request_id", metavar="ID")
@_base_url
def cancel(request_id: str, url: str | None) -> None:
    """Cancel what of a request has not finished."""
    with _client() as requests:
        asyncio.run(requests.cancel(_address(url), request_id))


def _filters(*states: str) -> Callable[[_Command], _Command]:
    """The options that say which deliveries; those given reach the command as keywords."""
    options = (
        click.option("--request", "request_id", metavar="ID", help="Only those about this request."),
        click.option("--endpoint", metavar="E", help="Only those to this endpoint: an id, or a host with its port."),
        click.option("--state", type=click.Choice(states), help="Only those in this state."),
        click.option(
            "--since", metavar="T", type=Moment(), help="Only those whose event was since 2026-01-31T12:00, or 2h ago."
        ),
        click.option(
            "--failed-since", metavar="T", type=Moment(), help="Only those that have failed for good since then."
        ),
    )

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@main.command()
@_filters("pending", "delayed", "processing", "delivered", "failed")
@_base_url
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Deliveries to show.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with all that is known of each.")
def deliveries(url: str | None, *, limit: int, as_json: bool, **filters: str | None) -> None:
    """Show what became of webhooks, the newest first."""
    with _client("deliveries") as log:
        show = log.show_json if as_json else log.show
        asyncio.run(show(_address(url), _given(filters), limit))


@main.command()
@click.argument("delivery_id", metavar="[ID]", required=False)
@_filters("delivered", "failed", "delayed")
@_base_url
def redeliver(delivery_id: str | None, url: str | None, **filters: str | None) -> None:
    """Send webhooks again: one by its id, or those that the options say, of what was delivered or has failed.

    By its id, or with --state delayed, what waits for its next try is sent now. Each is sent under the id it had. What
    is queued or being sent already stays as it is, and so does what waits untried until its host answers.
    """
    given = _given(filters)
    if bool(delivery_id) == bool(given):
        raise click.UsageError("Give the id of a delivery, or options that say which ones.")
    with _client("deliveries") as log:
        if delivery_id:
            asyncio.run(log.redeliver(_address(url), delivery_id))
        else:
            asyncio.run(log.redeliver_some(_address(url), given))


def _given(filters: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in filters.items() if value is not None}


@contextmanager
def _client(commands: Literal["requests", "deliveries"] = "requests") -> Iterator[ModuleType]:
    require("cli")
    from services.cli.client import ClientError  # noqa: PLC0415

    try:
        with _one_sentence(ClientError):
            yield import_module(f"services.cli.{commands}")
    except KeyboardInterrupt:
        click.echo("Stopped watching; what was accepted goes on.", err=True)
        sys.exit(130)


def _address(url: str | None) -> str:
    return url or load(CommonSettings).base_url()


def _add_service(service: str) -> None:
    @main.command(
        service,
        help=f"Run one {service} until SIGTERM. Settings come from the environment or .env.",
        context_settings={"ignore_unknown_options": True},
        add_help_option=False,
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: tuple[str, ...]) -> None:
        require(service)
        argv = [*service_argv(service), *arguments]
        os.execve(argv[0], argv, {**os.environ, **search_path()})  # noqa: S606 (becoming the service is the point)


for _service in SERVICES:
    _add_service(_service)

if __name__ == "__main__":
    main(prog_name="darkroom")
