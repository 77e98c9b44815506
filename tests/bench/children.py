"""Processes of a benchmark: modules of tests.bench that answer in lines of JSON and go on when told by a line."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.runtime.tether import tethered

_ANSWER_SECONDS = 300.0
_LONGEST_LINE = 2**24


def say(**values: Any) -> None:
    """In the child: one line to the parent."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


async def told() -> str:
    """In the child: the next line from the parent, empty when the parent has gone."""
    line: str = await asyncio.to_thread(sys.stdin.readline)
    return line.strip()


@dataclass(frozen=True, slots=True)
class Child:
    """A running child."""

    process: asyncio.subprocess.Process

    async def answer(self) -> dict[str, Any]:
        """Its next line."""
        assert self.process.stdout is not None
        async with asyncio.timeout(_ANSWER_SECONDS):
            line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a child of the benchmark ended with {await self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def tell(self, line: str) -> None:
        """Sends it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()


@asynccontextmanager
async def child(module: str, *arguments: str) -> AsyncIterator[Child]:
    """Runs `python -m module` while the context lasts."""
    process = await asyncio.create_subprocess_exec(
        *tethered([sys.executable, "-m", module, *arguments]),
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
    )
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
