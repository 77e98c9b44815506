"""The images this watcher holds: their tasks, their slots and the renewal of their leases."""

import asyncio
from collections.abc import Coroutine

import structlog
from pymongo.errors import PyMongoError

from libs.documents import HeldImage
from libs.leases import Leases
from libs.runtime import metrics

_log = structlog.get_logger()


class Holdings:
    """At most `slots` images, each with the task that works on it."""

    def __init__(self, leases: Leases, slots: int) -> None:
        self._leases = leases
        self._slots = slots
        self._tasks: dict[HeldImage, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    @property
    def free(self) -> int:
        """Slots that are free."""
        return self._slots - len(self._tasks)

    def add(self, image: HeldImage, work: Coroutine[None, None, None], group: asyncio.TaskGroup) -> None:
        """Starts the work on a claimed image."""
        task = group.create_task(work, name=f"image {image.request_id}/{image.position}")
        self._tasks[image] = task
        metrics.IN_FLIGHT.labels("watcher").set(len(self._tasks))
        task.add_done_callback(lambda _: self._done(image))

    def _done(self, image: HeldImage) -> None:
        del self._tasks[image]
        metrics.IN_FLIGHT.labels("watcher").set(len(self._tasks))
        self._changed.set()

    @property
    def is_empty(self) -> bool:
        """Whether no image is held."""
        return not self._tasks

    def nudge(self) -> None:
        """Ends the wait for a change."""
        self._changed.set()

    async def wait_until_alone(self) -> None:
        """Returns when the caller's image is the only one held; its lease is renewed meanwhile."""
        while len(self._tasks) > 1:
            await self.wait_for_change()

    async def wait_for_change(self) -> None:
        """Returns when an image has left, or at a nudge."""
        self._changed.clear()
        await self._changed.wait()

    async def wait_until_empty(self) -> None:
        """Returns when no image is held."""
        while self._tasks:
            await self.wait_for_change()

    async def renew(self) -> None:
        """Renews every lease; work on images that were cancelled or have passed to another is ended."""
        for token, images in self._by_token().items():
            ids = [image.document_id for image in images]
            try:
                if await self._leases.renew(token, ids) == len(ids):
                    continue
                held = {document["_id"]["n"] for document in await self._leases.held(token, ids)}
            except PyMongoError as error:
                _log.warning("lease.renewal_failed", images=len(ids), error=repr(error)[:300])
                continue
            for image in images:
                task = self._tasks.get(image)
                if image.position not in held and task is not None:
                    task.cancel()

    async def run_renewals(self) -> None:
        """Renews at a third of the lease, until cancelled."""
        while True:
            await asyncio.sleep(self._leases.renewal_seconds)
            await self.renew()

    async def give_back(self) -> None:
        """Ends all work and releases what is still held, at no charge."""
        left = self._by_token()
        for task in list(self._tasks.values()):
            _log.info("image.released", task=task.get_name())
            task.cancel()
        await self.wait_until_empty()
        for token, images in left.items():
            released = await self._leases.release(token, [image.document_id for image in images])
            metrics.IMAGES_RELEASED.inc(released)

    def _by_token(self) -> dict[str, list[HeldImage]]:
        tokens: dict[str, list[HeldImage]] = {}
        for image in self._tasks:
            tokens.setdefault(image.token, []).append(image)
        return tokens
