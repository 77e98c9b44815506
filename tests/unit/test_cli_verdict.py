"""The demo's checks find what is wrong."""

import json
import time
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from libs.webhooks import new_secret, parse_secret, signed_headers
from services.cli.client import Row, Status
from services.cli.loopback import Shop, Webhook
from services.cli.samples import Sample, samples
from services.cli.verdict import Outcome, Verdict

SECRET = new_secret()
ROW = Row(serial_number=1, product_name="A", input_image_urls=[], output_image_urls=[], errors=[])
STATUS = Status(
    request_id="r", status="completed", total=2, completed=2, failed=0, cancelled=0, bytes_in=2, bytes_out=1
)


def jpeg(width: int, height: int, quality: int) -> bytes:
    """A JPEG with something in it."""
    data = BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(data, "JPEG", quality=quality)
    return data.getvalue()


SAMPLE = Sample("a.jpg", "image/jpeg", jpeg(64, 48, 95), 64, 48)
GOOD = Outcome(ROW, SAMPLE, "http://x/1.jpg", jpeg(64, 48, 30))


def judged(*outcomes: Outcome, status: Status = STATUS, downloads: int = 1) -> list[str]:
    """The checks of the images that did not hold."""
    shop = Shop((SAMPLE,))
    shop.downloads["a.jpg"] = downloads
    verdict = Verdict(lambda _: None)
    verdict.on_images(status, outcomes, shop)
    return verdict.failures


def test_good_results_pass() -> None:
    """Nothing is said to have failed when nothing has."""
    assert judged(GOOD, GOOD) == []


@pytest.mark.parametrize(
    ("outcome", "failure"),
    [
        (replace(GOOD, output=b"", url=""), "every image is there"),
        (replace(GOOD, output=jpeg(48, 64, 30)), "every image is a JPEG"),
        (replace(GOOD, output=SAMPLE.data + b"x"), "every image is smaller"),
        (replace(GOOD, url="http://x/2.jpg"), "every URL was downloaded once"),
    ],
)
def test_a_wrong_image_fails_its_check(outcome: Outcome, failure: str) -> None:
    """Missing, turned, larger, or compressed twice."""
    assert [found.startswith(failure) for found in judged(GOOD, outcome)] == [True]


def test_a_request_that_is_not_completed_or_was_fetched_twice_fails() -> None:
    """The outputs alone do not make it good."""
    assert judged(GOOD, status=STATUS.model_copy(update={"status": "failed"})) == [
        "the request is completed (it is failed)"
    ]
    assert len(judged(GOOD, downloads=2)) == 1


def webhook(request_id: str = "r", status: str = "completed", *, secret: str = SECRET) -> Webhook:
    """A webhook as the notifier sends it."""
    body = json.dumps({"request_id": request_id, "status": status}).encode()
    return Webhook(signed_headers(parse_secret(secret), "msg_1", int(time.time()), body), body)


def test_the_webhook_has_to_be_of_the_request_and_signed() -> None:
    """A good one passes; another request's, or one signed with another secret, does not."""
    failures = []
    for received in (webhook(), webhook("other"), webhook(status="failed"), webhook(secret=new_secret())):
        verdict = Verdict(lambda _: None)
        verdict.on_webhook(received, SECRET, "r")
        failures.append(len(verdict.failures))
    assert failures == [0, 1, 1, 1]


def test_the_samples_are_large_photographs() -> None:
    """One to two megapixels each; one is stored turned, one is transparent in parts."""
    made = list(samples())
    assert all(1_000_000 <= sample.width * sample.height <= 2_000_000 for sample in made)
    stored = {sample.name: Image.open(BytesIO(sample.data)) for sample in made}
    turned = [sample.name for sample in made if stored[sample.name].size != (sample.width, sample.height)]
    assert turned == ["tower.jpg"]
    assert [name for name, image in stored.items() if image.mode == "RGBA"] == ["vase.png"]
