"""`darkroom demo`: the main job on this machine, self-contained, with all that came out of it checked."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from libs.runtime.logging import configure_logging
from libs.runtime.settings import PREFIX, CommonSettings, known_names
from services.cli.amounts import saving, size
from services.cli.client import Client, connect
from services.cli.data_folder import DataFolder
from services.cli.fleet import Fleet, usable_port
from services.cli.loopback import Shop
from services.cli.machine import Machine
from services.cli.samples import samples
from services.cli.stopping import run_until_signal
from services.cli.verdict import Outcome, Verdict
from services.cli.watching import watch

_HOST = "127.0.0.1"
_LOOPBACK = "127.0.0.0/8,::1/128"
_STOP_SECONDS = 25.0
_WHOLE_SECONDS = 120.0
_WEBHOOK_SECONDS = 20.0


class Demo:
    """Starts a Darkroom in `folder` and gives it a shop's photographs; settings in the environment do not count."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._data = DataFolder(folder)
        self._console = console
        self._verdict = Verdict(self._say)
        self._machine = Machine(self._fleet, mongo_folder=self._data.mongo, stop_seconds=_STOP_SECONDS)

    def run(self) -> int:
        """Gives the exit code: 0 only when every check held.

        Raises:
            MongodNotFoundError, MongodFailedError: there is no MongoDB to run on.
            ServiceRefusedError, ServiceBrokenError, ClientError: a service does not work at all.
        """
        self._data.logs.mkdir(parents=True)
        with (self._data.logs / "demo.log").open("w", encoding="utf-8") as log:
            configure_logging("demo", CommonSettings.model_construct(), stream=log)
            if run_until_signal(self._perform, self._machine.kill):
                return 130
        self._verdict.add("every process ended when it was asked to", held=not self._machine.killed)
        failures = self._verdict.failures
        self._say("\nNot all of it held:\n  " + "\n  ".join(failures) if failures else "\nAll of it held.")
        return 1 if failures else 0

    async def _perform(self) -> None:
        try:
            async with asyncio.timeout(_WHOLE_SECONDS):
                await self._start()
        except TimeoutError:
            self._verdict.add(f"it took less than {_WHOLE_SECONDS:g} s", held=False)

    async def _start(self) -> None:
        began = time.monotonic()
        self._say(f"Starting MongoDB and three services on free ports, in {self._data.path} …")
        making = asyncio.get_running_loop().run_in_executor(None, lambda: tuple(samples()))
        async with self._machine.running() as urls:
            shop = Shop(await making)
            self._say(f"Ready after {time.monotonic() - began:.1f} s: {_listed(urls)}")
            async with shop.open(), connect(urls["ingest"]) as client:
                await self._job(shop, client)

    async def _job(self, shop: Shop, client: Client) -> None:
        file = self._data.path / "products.csv"
        file.write_text(_csv(shop), encoding="utf-8")
        self._say(f"\nUploading {file.name}:\n{_csv(shop)}")
        request_id = await client.upload(file, shop.webhook_url)
        self._say(f"Accepted as request {request_id}.")
        began = time.monotonic()
        status = await watch(client, request_id, self._console, every_seconds=0.1)
        took_seconds = time.monotonic() - began
        outcomes = await self._outcomes(client, request_id, shop)
        self._show(outcomes, took_seconds)
        self._say("\nChecked:")
        self._verdict.on_images(status, outcomes, shop)
        await self._webhook(shop, request_id)

    async def _outcomes(self, client: Client, request_id: str, shop: Shop) -> list[Outcome]:
        by_url = {shop.url(sample): sample for sample in shop.samples}
        status = await client.status(request_id, limit=100)
        return [
            Outcome(row, by_url[source], output or "", await client.download(output) if output else b"")
            for row in status.details
            for source, output in zip(row.input_image_urls, row.output_image_urls, strict=True)
        ]

    def _show(self, outcomes: list[Outcome], took_seconds: float) -> None:
        table = Table("S. No.", "Product", "Photograph", "Pixels", "Before", "After", "Saved")
        for column in table.columns[3:]:
            column.justify = "right"
        for outcome in outcomes:
            row, sample, before, after = outcome.row, outcome.sample, outcome.bytes_before, outcome.bytes_after
            sizes = (size(before), size(after), saving(before, after)) if after else (size(before), "-", "-")
            pixels = f"{sample.width} x {sample.height}"
            table.add_row(str(row.serial_number), row.product_name, sample.name, pixels, *sizes)
        self._console.print(table)
        self._say(_summary(outcomes, took_seconds))

    async def _webhook(self, shop: Shop, request_id: str) -> None:
        try:
            async with asyncio.timeout(_WEBHOOK_SECONDS):
                webhook = await shop.first_webhook()
        except TimeoutError:
            self._verdict.add("the webhook arrived", held=False)
            return
        self._verdict.on_webhook(webhook, self._data.webhook_secret(), request_id)
        self._say(f"\nThe webhook that {shop.webhook_url} received:")
        for name, value in webhook.headers.items():
            if name.lower().startswith("webhook-"):
                self._say(f"  {name.lower()}: {value}")
        self._say(f"  {webhook.body.decode()}\n")

    def _say(self, text: str) -> None:
        self._console.out(text, highlight=False)

    def _fleet(self, connection_string: str) -> Fleet:
        ours = known_names()
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name.upper() not in ours and not name.upper().startswith(PREFIX)
        }
        common = {
            **inherited,
            "MONGO_CONNECTION_STRING": connection_string,
            "DARKROOM_STORAGE": self._data.images_url,
            "DARKROOM_EGRESS_ALLOW": _LOOPBACK,
        }
        return Fleet(
            common,
            port=usable_port(_HOST, 0),
            workers=os.cpu_count() or 1,
            webhook_secret=self._data.webhook_secret(),
            folder=self._data.path,  # no .env is there
            logs=self._data.logs,
        )


def _summary(outcomes: Sequence[Outcome], took_seconds: float) -> str:
    """What all of it came to; as in status and webhook, images count as often as they stand, their bytes once."""
    photographs = {outcome.sample.name: outcome for outcome in outcomes if outcome.output}.values()
    before = sum(outcome.bytes_before for outcome in photographs)
    after = sum(outcome.bytes_after for outcome in photographs)
    return (
        f"{len(outcomes)} images in {took_seconds:.1f} s ({len(outcomes) / took_seconds:.1f} images/s). "
        f"{len(photographs)} photographs, each counted once: {size(before)} became {size(after)}, "
        f"{saving(before, after)} saved."
    )


def _csv(shop: Shop) -> str:
    """One row spills a URL into a column of its own, one has two in a quoted cell, and one URL stands twice."""
    coast, dunes, forest, dusk, portrait, vase = (shop.url(sample) for sample in shop.samples)
    return (
        "S. No.,Product Name,Input Image Urls\n"
        f"1,Prints,{coast}, {dunes}\n"
        f'2,Posters,"{forest}, {dusk}"\n'
        f"3,Postcard,{portrait}\n"
        f"4,Vase,{vase}, {coast}\n"
    )


def _listed(urls: dict[str, str]) -> str:
    return ", ".join(f"{name} {url}" for name, url in urls.items())


def run_demo(*, keep: bool) -> int:
    """Runs the demo in a folder that is removed afterwards, unless `keep` is set or something did not hold."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-demo-"))
    console = Console()
    code: int | None = None
    try:
        code = Demo(folder, console).run()
    finally:
        if keep or code in {None, 1}:
            console.out(
                f"Everything is kept in {folder}; the services' logs are in {folder / 'logs'}.", highlight=False
            )
        else:
            shutil.rmtree(folder)
    return code
