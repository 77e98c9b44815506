"""What the demo checks of all that came out."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from libs.webhooks import VerificationError, parse_secret, verify
from services.cli.client import Row, Status
from services.cli.loopback import Shop, Webhook
from services.cli.samples import Sample


@dataclass(frozen=True, slots=True)
class Outcome:
    """One image of the CSV and what became of it; `url` and `output` are empty when there is none."""

    row: Row
    sample: Sample
    url: str
    output: bytes

    @property
    def bytes_before(self) -> int:
        """Size of the source."""
        return len(self.sample.data)

    @property
    def bytes_after(self) -> int:
        """Size of the output."""
        return len(self.output)

    @property
    def is_faithful(self) -> bool:
        """Whether it is a JPEG of as many pixels as the source has when that is held upright."""
        with Image.open(BytesIO(self.output)) as image:
            return image.format == "JPEG" and image.size == (self.sample.width, self.sample.height)


class Verdict:
    """Says of each check whether it held, and remembers those that did not."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.failures: list[str] = []

    def add(self, what: str, *, held: bool) -> None:
        """One check."""
        self._say(f"  {'ok    ' if held else 'FAILED'}  {what}")
        if not held:
            self.failures.append(what)

    def on_images(self, status: Status, outcomes: Sequence[Outcome], shop: Shop) -> None:
        """Checks the request and its outputs."""
        self.add(f"the request is completed (it is {status.status})", held=status.is_all_well)
        self.add("every image is there", held=bool(outcomes) and all(outcome.output for outcome in outcomes))
        got = [outcome for outcome in outcomes if outcome.output]
        self.add(
            "every image is a JPEG, upright, of as many pixels as its source",
            held=all(outcome.is_faithful for outcome in got),
        )
        self.add(
            "every image is smaller than its source",
            held=all(outcome.bytes_after < outcome.bytes_before for outcome in got),
        )
        outputs = {(outcome.sample.name, outcome.url) for outcome in got}
        self.add(
            "every URL was downloaded once, and the one that stands twice has one output",
            held=set(shop.downloads.values()) == {1} and len(outputs) == len(shop.samples),
        )

    def on_webhook(self, webhook: Webhook, secret: str, request_id: str) -> None:
        """Checks the webhook and its signature."""
        body = json.loads(webhook.body)
        told = (body.get("request_id"), body.get("status"))
        self.add("the webhook tells that this request is completed", held=told == (request_id, "completed"))
        try:
            verify(parse_secret(secret), webhook.headers, webhook.body, now=time.time())
        except VerificationError as error:
            self.add(f"the webhook's signature verifies ({error})", held=False)
        else:
            self.add("the webhook's signature verifies", held=True)
