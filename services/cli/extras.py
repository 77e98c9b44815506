"""What of the project's extras is not installed here."""

from importlib.util import find_spec

import click

SERVICES = ("ingest", "watcher", "notifier")
MODULES = {
    "ingest": ("aiofiles", "aiohttp_swagger3", "openapi_pydantic"),
    "watcher": ("aiofiles", "isal", "numpy", "PIL", "simplejpeg"),
    "notifier": (),
    "cli": ("PIL", "rich"),
}
"""Modules that each extra brings; the embedded MongoDB of `cli` is looked for by `libs.mongo`, which has other ways."""


def require(*extras: str) -> None:
    """Raises `MissingExtraError` for those of `extras` that are not installed."""
    missing = [extra for extra in extras if any(find_spec(module) is None for module in MODULES[extra])]
    if missing:
        raise MissingExtraError(missing)


class MissingExtraError(click.ClickException):
    """Something is not installed; the message says how to install it."""

    exit_code = 2

    def __init__(self, extras: list[str]) -> None:
        wanted = extras[0] if len(extras) == 1 else "all"
        super().__init__(f"This needs more than is installed here: pip install 'darkroom[{wanted}]'")
