"""What every part of the benchmark works with: a Darkroom, and photographs that it has not seen, on a server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.darkroom import Darkroom, running
from tests.bench.file_server import FileServer, serving_files
from tests.bench.photographs import Crops

_WARM_UP_IMAGES = 64


@dataclass(frozen=True, slots=True)
class Photographs:
    """Files in a folder of their own, and their links on the server."""

    folder: Path
    links: list[str]
    bytes: int


@dataclass(slots=True)
class Bench:
    """The running parts."""

    darkroom: Darkroom
    server: FileServer
    root: Path
    _crops: Crops = field(default_factory=Crops)
    _made: int = 0

    def photographs(self, count: int) -> Photographs:
        """New ones: what was seen before, Darkroom would not compress again."""
        self._made += 1
        folder = self.root / str(self._made)
        folder.mkdir()
        names, size = [], 0
        for number, data in enumerate(self._crops.take(count)):
            names.append(f"{number:05}.jpg")
            size += (folder / names[-1]).write_bytes(data)
        return Photographs(folder, [f"{self.server.url}/{folder.name}/{name}" for name in names], size)


@asynccontextmanager
async def ready(folder: Path) -> AsyncIterator[Bench]:
    """Starts everything in `folder`, and has some images compressed, since codec processes start with the first."""
    root = folder / "photographs"
    root.mkdir()
    async with serving_files(root, folder) as server, running(folder) as darkroom:
        bench = Bench(darkroom, server, root)
        print(f"photographs are served by {server.name}", flush=True)
        await darkroom.finish([bench.photographs(_WARM_UP_IMAGES).links])
        yield bench
