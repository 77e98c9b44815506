"""Notifiers in the test's own process, and the closed requests they are to tell about."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from libs.documents import (
    Delivery,
    Documents,
    Endpoint,
    Failed,
    ImageFailure,
    NewEndpoint,
    NewImage,
    NewRequest,
    Output,
)
from libs.documents.delivery import delivery_of
from libs.runtime.lifecycle import Process
from libs.runtime.settings import load
from services.notifier.app import serve
from services.notifier.breaker import Breaker
from services.notifier.sender import Poster
from services.notifier.settings import NotifierSettings
from tests.processes import SECRET
from tests.waiting import until

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
OUTPUT = Output(name="a" * 64 + ".jpg", bytes=40, source_bytes=100, width=4, height=3, format="jpeg")
FAILURE = Failed(ImageFailure("http_404", "the server answered 404"))


def notifier_settings(documents: Documents, mongo_uri: str, **settings: Any) -> NotifierSettings:
    """The settings of a notifier on the test's database, which may reach loopback and looks around often."""
    values = {
        "mongo_connection_string": mongo_uri,
        "database_name": documents.mongo.database.name,
        "notifier_port": 0,
        "egress_allow": "127.0.0.0/8",
        "webhook_secret": SECRET,
        "webhook_schedule": "0.05",
        "sweep_seconds": 0.2,
        "shutdown_seconds": 5,
        "_env_file": None,
    }
    return load(NotifierSettings, **values | settings)


class Notifying(Process):
    """The process of a notifier inside the test; `ready` is set once it listens."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = asyncio.Event()

    def announce(self, url: str) -> None:
        """Notes that it is ready."""
        super().announce(url)
        self.ready.set()


@asynccontextmanager
async def notifying(
    settings: NotifierSettings, *, poster: Poster | None = None, breaker: Breaker | None = None
) -> AsyncIterator[Notifying]:
    """Runs a notifier until the end of the context, or until the stop of what is given."""
    process = Notifying()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(settings, process, poster=poster, breaker=breaker), name="notifier")
        try:
            yield process
        finally:
            process.stop.set()


async def close_request(documents: Documents, webhook_url: str | None, *, good: int = 1, bad: int = 0) -> str:
    """A request of `good` compressed and `bad` failed images, closed; gives its id."""
    request_id, total = uuid4(), good + bad
    new = NewRequest(webhook_url, "a.csv", 10, "0" * 64, total, TRACE)
    images = [NewImage(n, n, n + 1, f"SKU{n}", f"http://h/{n}", "h") for n in range(total)]
    await documents.requests.accept(new, [images], request_id)
    _, held = await documents.images.claim(total)
    await documents.outcomes.write([(image, OUTPUT if n < good else FAILURE) for n, image in enumerate(held)])
    assert await documents.requests.close_if_done(str(request_id), total)
    return str(request_id)


async def delivery_in(documents: Documents, request_id: str, state: str) -> Delivery:
    """The request's one delivery, once it has reached `state`."""

    async def probe() -> Delivery | None:
        found = await documents.deliveries.of_request(request_id)
        assert len(found) <= 1
        return found[0] if found and found[0].state == state else None

    return await until(probe, f"the delivery is {state}")


async def subscribe(documents: Documents, url: str, **said: Any) -> Endpoint:
    """A new standing endpoint."""
    return await documents.endpoints.create(NewEndpoint(url, **said))


async def deliveries_to(documents: Documents, endpoint: Endpoint) -> list[Delivery]:
    """Every delivery to a standing endpoint, in the order of their events."""
    found = documents.mongo.collection("deliveries").find({"endpoint_id": endpoint.id}, sort=[("rank", 1), ("_id", 1)])
    return [delivery_of(document) async for document in found]


async def ended(documents: Documents, endpoint: Endpoint, count: int) -> list[Delivery]:
    """The deliveries to a standing endpoint, once so many of them are delivered or have failed."""

    async def probe() -> list[Delivery] | None:
        found = await deliveries_to(documents, endpoint)
        return found if sum(one.state in {"delivered", "failed"} for one in found) >= count else None

    return await until(probe, f"{count} deliveries have ended")


async def endpoint_now(documents: Documents, endpoint: Endpoint) -> Endpoint:
    """The endpoint as it stands now."""
    found = await documents.endpoints.get(endpoint.id)
    assert found is not None
    return found
