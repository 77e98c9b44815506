"""One try at one image, and what becomes of it: finished, put off, or failed for good."""

import random
import time
from dataclasses import dataclass
from functools import partial

import structlog

from libs.documents import Documents, Failed, HeldImage, ImageFailure, Outcome
from libs.egress import EgressError
from libs.imaging import ImageError
from libs.leases import Settle
from libs.mongo import patiently
from libs.runtime import metrics
from libs.runtime.trace import trace_id
from libs.storage import StorageError
from services.watcher.briefs import Brief, Briefs
from services.watcher.completion import Completion
from services.watcher.hosts import Hosts
from services.watcher.pipeline import Pipeline
from services.watcher.settings import WatcherSettings

_log = structlog.get_logger()
# What a URL redirects to had its share of the downloads, or there was no memory: nobody's failure, so it costs no try.
_UNTRIED = frozenset({"host_busy", "memory_busy"})


class UnexpectedError(Exception):
    """Something of ours is wrong; the image is tried again like after any passing fault, and the log has the cause."""

    code = "internal_error"
    retryable = True

    def __init__(self, cause: Exception) -> None:
        super().__init__(repr(cause))
        self.detail = "an unexpected error; see the watcher's log"


@dataclass(frozen=True, slots=True)
class _Retry:
    error: ImageFailure
    seconds: float
    charge: int = 1


class Attempts:
    """Works on images that are held."""

    def __init__(
        self,
        settings: WatcherSettings,
        documents: Documents,
        pipeline: Pipeline,
        completion: Completion,
        hosts: Hosts,
        *,
        briefs: Briefs,
    ) -> None:
        self._settings = settings
        self._documents = documents
        self._briefs = briefs
        self._pipeline = pipeline
        self._completion = completion
        self._hosts = hosts

    async def work(self, image: HeldImage, settle: Settle) -> None:
        """Tries the image once and writes down what came of it, after `settle`. Cancelled before: nothing is."""
        with structlog.contextvars.bound_contextvars(request_id=image.request_id, position=image.position):
            brief = await self._briefs.of(image.request_id)
            if brief is None:
                await self._discard(image)
                return
            structlog.contextvars.bind_contextvars(trace_id=trace_id(brief.trace))
            outcome = await self._outcome(image, brief)
            settle()
            if isinstance(outcome, _Retry):
                await self._put_off(image, outcome)
            elif not await self._completion.finish(image, outcome, brief):
                _log.info("image.fenced")

    async def _discard(self, image: HeldImage) -> None:
        """Removes an image without its request: nobody can ask for it, and it is counted nowhere."""
        _log.warning("image.orphaned")
        await patiently(lambda: self._documents.images.leases.discard(image.token, image.document_id))

    async def _put_off(self, image: HeldImage, retry: _Retry) -> None:
        if not await patiently(
            lambda: self._documents.images.retry(image, retry.error, retry.seconds, charge=retry.charge)
        ):
            metrics.IMAGES_FENCED.inc()

    async def _outcome(self, image: HeldImage, brief: Brief) -> Outcome | _Retry:
        if image.attempts >= self._settings.max_attempts:
            return Failed(ImageFailure("worker_crashed", "every watcher that worked on it alone was lost"))
        started = time.monotonic()
        try:
            queued_seconds = max(0.0, (image.claimed_at - brief.created_at).total_seconds())
            output = await self._pipeline.process(
                image.url,
                brief.options,
                flow=image.request_id,
                is_awaited=brief.is_awaited,
                queued_seconds=queued_seconds,
                on_download=partial(self._hosts.leave, image),
            )
        except (EgressError, ImageError, StorageError) as problem:
            return self._failure(image, problem)
        except Exception as error:  # noqa: BLE001 (one image must not stop the service; it is logged and recorded)
            _log.exception("image.unexpected_error")
            return self._failure(image, UnexpectedError(error))
        _log.info(
            "image.compressed",
            bytes_in=output.source_bytes,
            bytes_out=output.bytes,
            kept=output.kept,
            reused=output.reused,
            milliseconds=round((time.monotonic() - started) * 1000),
        )
        return output

    def _failure(
        self, image: HeldImage, problem: EgressError | ImageError | StorageError | UnexpectedError
    ) -> Failed | _Retry:
        error = ImageFailure(problem.code, problem.detail)
        if error.code in _UNTRIED:
            metrics.IMAGES_RETRIED.labels(error.code).inc()
            return _Retry(error, self._pause_seconds(0, 0.0), charge=0)
        made = image.attempts + 1
        if not problem.retryable or made >= self._settings.max_attempts:
            _log.warning("image.failed", code=error.code, detail=error.detail, attempts=made)
            return Failed(error)
        asked = problem.retry_after_seconds if isinstance(problem, EgressError) else None
        seconds = self._pause_seconds(image.attempts, asked or 0.0)
        metrics.IMAGES_RETRIED.labels(error.code).inc()
        _log.info("image.retry", code=error.code, detail=error.detail, attempts=made, seconds=round(seconds, 1))
        return _Retry(error, seconds)

    def _pause_seconds(self, attempts: int, asked_seconds: float) -> float:
        """Exponential, its upper half jittered; at least what the server asked for; capped."""
        exponential = self._settings.retry_seconds * 2.0**attempts * random.uniform(0.5, 1.0)  # noqa: S311 (jitter)
        return min(max(exponential, asked_seconds), self._settings.retry_cap_seconds)
