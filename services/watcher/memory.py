"""What was made before: the same bytes are not compressed again for the same options, whatever URL they came from."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from hashlib import sha256

from libs.documents import Output
from libs.imaging import REVISION, Options
from libs.mongo import patiently
from libs.runtime.batches import Batches

# Hashed in place in at most a millisecond; a thread for it costs a tenth of one.
_IN_PLACE_BYTES = 1024 * 1024
_KEPT = 4096
_BATCH = 32
# A query takes as much of the processors as half a millisecond of compressing, wherever it runs. An image that somebody
# may be waiting for waits no longer for it than for a slow file, and one of many for no longer than for its slot: where
# there are fewer slots than make a batch, what waits would keep them from being worked in.
_PACE_SECONDS = 0.02
_PACE_OF_MANY_SECONDS = 0.2


async def key_of(body: bytes, options: Options) -> bytes:
    """What an output depends on, as one key: the source's bytes, what is asked for, and the revision of the codec."""
    source = _digest(body) if len(body) <= _IN_PLACE_BYTES else await asyncio.to_thread(_digest, body)
    return _digest(source + _asked(options))


class Memory:
    """The outputs of this watcher that were made or reused lately, and behind them those of all images there are.

    The documents are what remembers (`made_from`, see `Images`). They are asked for several keys in one query. Failures
    are not remembered. Two watchers that meet the same bytes at the same time both compress them.

    At most `slots` images are worked on at once: with few of them, fewer are waited for, and for a shorter time.
    """

    def __init__(
        self, made_from: Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, Output]]], *, slots: int
    ) -> None:
        self._made_from = made_from
        most = min(_BATCH, slots)
        self._pace_of_many_seconds = max(_PACE_SECONDS, _PACE_OF_MANY_SECONDS * most / _BATCH)
        self._turns: dict[bytes, _Turn] = {}
        self._lately: OrderedDict[bytes, Output] = OrderedDict()
        self._awaited = Batches(self._look, most=most, pace_seconds=_PACE_SECONDS)
        self._of_many = Batches(self._look, most=most, pace_seconds=self._pace_of_many_seconds)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Asks the documents while the context lasts; waits out a MongoDB that does not answer."""
        async with self._awaited.running("memory"), self._of_many.running("memory of large requests"):
            yield

    def hurry(self, *, is_dry: bool) -> None:
        """Whether nothing waits behind what is worked on now, so that more keys will not come together by waiting."""
        self._of_many.pace(_PACE_SECONDS if is_dry else self._pace_of_many_seconds)

    @asynccontextmanager
    async def turn(self, key: bytes) -> AsyncIterator[None]:
        """Only one at a time is in here with the same key: the others wait until it has remembered, or has failed."""
        turn = self._turns.setdefault(key, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]

    async def recall(self, key: bytes, *, is_awaited: bool) -> Output | None:
        """The output that was made under `key`, if any was; to be called in its turn."""
        if output := self._lately.get(key):
            self._lately.move_to_end(key)
            return output
        if output := await (self._awaited if is_awaited else self._of_many).result(key):
            self.remember(output)
        return output

    def remember(self, output: Output) -> None:
        """Keeps what has been made and is in the store."""
        self._lately[output.key] = output
        self._lately.move_to_end(output.key)
        if len(self._lately) > _KEPT:
            self._lately.popitem(last=False)

    async def _look(self, keys: Sequence[bytes]) -> Sequence[Output | None]:
        found = await patiently(partial(self._made_from, keys))
        return [found.get(key) for key in keys]


class _Turn:
    """A lock, and how many hold or await it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


@lru_cache(maxsize=256)
def _asked(options: Options) -> bytes:
    """Options in one spelling; the largest source that is let in changes nothing about an output."""
    return json.dumps([REVISION, options.to_document()], sort_keys=True).encode()


def _digest(data: bytes) -> bytes:
    return sha256(data).digest()
