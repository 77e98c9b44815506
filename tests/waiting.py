"""Waits on a condition of another process, where there is no signal to wait for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")
_INTERVAL_SECONDS = 0.05


async def until(probe: Callable[[], Awaitable[ResultT | None]], what: str, *, seconds: float = 60.0) -> ResultT:
    """The probe's first result that is true; AssertionError naming `what` when `seconds` pass before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := await probe():
            return result
        await asyncio.sleep(_INTERVAL_SECONDS)
    raise AssertionError(f"not within {seconds:g} s: {what}")
