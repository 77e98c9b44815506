"""How a service process that a test holds at a step says that it is there."""

import asyncio

import structlog

from tests.processes import Service
from tests.waiting import until

_HELD = "test.held"
_log = structlog.get_logger()


async def hold() -> None:
    """In the process: says that the step is reached, and goes no further."""
    _log.info(_HELD)
    await asyncio.Event().wait()


async def held(service: Service) -> None:
    """In the test: returns when the process has come to its step."""

    async def probe() -> bool:
        return any(event["event"] == _HELD for event in service.events)

    await until(probe, f"{service.log.stem} is held")
