"""A database and a folder of its own for services that are to be broken, and what must hold behind them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from libs.documents import Counts, Documents, NewImage, NewRequest, Request
from libs.mongo import Mongo
from tests.processes import environment
from tests.waiting import until

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
SHORT_LEASES = {
    "DARKROOM_LEASE_SECONDS": "3",
    "DARKROOM_OPERATION_SECONDS": "0.9",
    "DARKROOM_SWEEP_SECONDS": "0.2",
}
"""A lease that is soon over, and replicas that soon look for what was lost."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The folder and environment of services that work on one database, and the test's own view of that."""

    folder: Path
    env: dict[str, str]
    documents: Documents

    async def submit(self, urls: Sequence[str], webhook_url: str | None = None) -> str:
        """A loaded request of these images, as ingest stores it."""
        request_id = uuid4()
        new = NewRequest(webhook_url, "a.csv", 10, "0" * 64, len(urls), TRACE)
        images = [NewImage(n, n, n, f"SKU{n}", url, "h") for n, url in enumerate(urls)]
        await self.documents.requests.accept(new, [images], request_id)
        return str(request_id)

    async def closed(self, request_id: str) -> Request:
        """The request once it is closed."""

        async def probe() -> Request | None:
            request = await self.documents.requests.get(request_id)
            return request if request is not None and request.closed else None

        return await until(probe, "the request is closed")

    async def states(self) -> dict[str, int]:
        """How many images are in each state."""
        found = await self.documents.mongo.collection("images").find().to_list(None)
        return {state: sum(image["state"] == state for image in found) for state in {image["state"] for image in found}}

    async def assert_counted_once(self, request_id: str) -> None:
        """The closed request has the counts of a recount over its images, nothing is leased, and it was closed once."""
        request = await self.documents.requests.get(request_id)
        assert request is not None
        images = await self.documents.mongo.collection("images").find({"_id.r": request_id}).to_list(None)
        assert [image for image in images if image["state"] not in {"completed", "failed"} or "lease" in image] == []
        outputs = [image["output"] for image in images if image["state"] == "completed"]
        recount = Counts(
            completed=len(outputs),
            failed=len(images) - len(outputs),
            bytes_in=sum(output["source_bytes"] for output in outputs),
            bytes_out=sum(output["bytes"] for output in outputs),
        )
        assert len(images) == request.total
        assert request.counts == recount
        # Nothing is counted apart of a request that was closed in the transaction which wrote all its images.
        assert await self.documents.progress.total(request_id) in (recount, Counts())
        assert await self._closings(request_id) == 1

    async def _closings(self, request_id: str) -> int:
        """How many writes have closed the request, by the server's own log of operations."""
        mongo = self.documents.mongo
        namespace = f"{mongo.database.name}.{self.documents.requests.collection.name}"
        closing = {"ns": namespace, "o2._id": request_id, "o.diff.u.closed": True}
        alone_or_in_a_transaction = {"$or": [closing, {"o.applyOps": {"$elemMatch": closing}}]}
        return await mongo.client["local"]["oplog.rs"].count_documents(alone_or_in_a_transaction)


@asynccontextmanager
async def scene(mongo_uri: str, folder: Path, **settings: str) -> AsyncIterator[Scene]:
    """A scene in `folder`, which need not be there; its database is dropped behind it."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    env = environment(mongo_uri, folder, **settings)
    mongo = Mongo.connect(mongo_uri, env["DATABASE_NAME"], operation_seconds=20, app_name="darkroom-test")
    documents = Documents(mongo)
    await documents.ensure_indexes()
    try:
        yield Scene(folder, env, documents)
    finally:
        await mongo.client.drop_database(mongo.database.name)
        mongo.close()
