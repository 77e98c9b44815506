"""Says not ready while MongoDB does not answer, so that a load balancer goes elsewhere."""

import asyncio

import structlog
from pymongo.errors import PyMongoError

from libs.documents import Documents
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop

_INTERVAL_SECONDS = 2.0

_log = structlog.get_logger()


async def watch_database(documents: Documents, health: Health, stop: Stop) -> None:
    """Asks the primary again and again until the stop."""
    while not stop.is_set:
        try:
            await documents.ping()
        except PyMongoError as error:
            if health.ready:
                _log.warning("mongo.unreachable", error=repr(error)[:300])
            health.set_unready("waiting for MongoDB")
        else:
            if not health.ready:
                _log.info("mongo.reachable")
            health.set_ready()
        health.beat()
        try:
            async with asyncio.timeout(_INTERVAL_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue
    health.set_unready("stopping")
