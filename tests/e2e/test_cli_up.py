"""`darkroom up` over real processes: everything starts, comes back when it dies, and ends."""

import asyncio
import json
import re
import signal
from pathlib import Path

import aiohttp
import psutil

from tests.e2e.commands import begun, broken, darkroom, gone, runs, up
from tests.sources import photograph, served

HEADER = "S. No.,Product Name,Input Image Urls\n"


async def output_of(request_id: str, url: str) -> bytes:
    """The bytes of the first output of a request."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/api/status", params={"request_id": request_id}) as answer:
            body = await answer.json()
            assert body["status"] == "completed"
        async with session.get(body["details"][0]["output_image_urls"][0]) as answer:
            assert answer.status == 200
            return await answer.read()


async def test_ctrl_c_ends_every_process_and_the_next_up_serves_the_old_results(tmp_path: Path) -> None:
    """Two watchers and two notifiers, services killed on the way: all end with exit 0, and the data is kept."""
    csv = tmp_path / "products.csv"
    async with served({"a.jpg": photograph(), "b.jpg": photograph(shade=1)}) as sources:
        csv.write_text(HEADER + f"1,A,{sources.link('a.jpg')}, {sources.link('b.jpg')}\n")
        async with up("--watchers", "2", "--notifiers", "2", folder=tmp_path) as first:
            assert [first.greeting.count(f"{name}/metrics") for name in (first.url, "")] == [1, 5]
            for url in re.findall(r"\S+/metrics", first.greeting):
                async with aiohttp.ClientSession() as session, session.get(url) as answer:
                    assert answer.status == 200, url

            for service in ("services.watcher", "services.ingest"):
                died = next(
                    child for child in psutil.Process(first.process.pid).children() if service in child.cmdline()
                )
                died.kill()
            await first.logged("service.died", 2)
            await first.logged("service.running", 7)
            said = [json.loads(line) for line in first.log.read_text(encoding="utf-8").splitlines() if line[:1] == "{"]
            names = {line["service"] for line in said if line["event"] == "service.ready"}
            assert names == {"ingest", "watcher-1", "watcher-2", "notifier-1", "notifier-2"}

            done = await darkroom("submit", "products.csv", "--wait", "--url", first.url, folder=tmp_path)
            assert done.code == 0, done.err
            [request_id] = re.findall(r"Request (\S+) is accepted", done.out)
            before = await output_of(request_id, first.url)
            family = first.family()
            assert sum("mongod" in process.name() for process in family) == 1
            assert await first.stop() == 0
            assert not [process for process in family if runs(process)]

    assert (tmp_path / ".darkroom").is_dir()
    async with up(folder=tmp_path) as second:
        assert await output_of(request_id, second.url) == before
        assert await second.stop(signal.SIGTERM) == 0


async def test_a_mongod_that_dies_is_started_again(tmp_path: Path) -> None:
    """On its port, so that the services find it, and what is submitted then is done."""
    csv = tmp_path / "products.csv"
    async with served({"a.jpg": photograph()}) as sources, up(folder=tmp_path) as running:
        csv.write_text(HEADER + f"1,A,{sources.link('a.jpg')}\n")
        [mongod] = [process for process in running.family() if "mongod" in process.name()]
        mongod.kill()
        await running.logged("mongod.died", 1)
        await running.logged("mongod.running", 1)
        done = await darkroom("submit", "products.csv", "--wait", "--url", running.url, folder=tmp_path)
        assert done.code == 0, done.err
        assert await running.stop() == 0


async def test_a_second_up_on_the_folder_is_refused(tmp_path: Path, mongo_uri: str) -> None:
    """It says what to do, and the first goes on."""
    settings = {"MONGO_CONNECTION_STRING": mongo_uri, "DATABASE_NAME": f"e2e_{tmp_path.name}"[:60]}
    async with up(folder=tmp_path, **settings) as first:
        assert not [process for process in first.family() if "mongod" in process.name()]
        refused = await darkroom("up", "--port", "0", folder=tmp_path, **settings)
        assert refused.code == 2
        assert refused.err.startswith("Error: Another `darkroom up` is running on")
        assert len(refused.err.splitlines()) == 1
        async with aiohttp.ClientSession() as session, session.get(f"{first.url}/readyz") as answer:
            assert answer.status == 200


async def test_a_killed_up_takes_everything_along(tmp_path: Path) -> None:
    """After kill -9 neither a service nor its mongod runs on, and the folder can be used again at once."""
    async with up(folder=tmp_path, DARKROOM_OPERATION_SECONDS="1") as killed:
        family = killed.family()
        assert len(family) >= 4
        killed.process.kill()
        await killed.process.wait()
    async with up(folder=tmp_path) as again:
        await gone(family)
        assert await again.stop() == 0


async def test_a_stop_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C does not have to wait for the ready line."""
    async with begun("--port", "0", folder=tmp_path) as starting:
        await starting.logged("mongod.ready")
        family = starting.family()
        assert await starting.stop() == 0
        await gone(family)


async def test_a_second_ctrl_c_kills_at_once(tmp_path: Path, mongo_uri: str) -> None:
    """A watcher amid a download that never ends is not waited for; the first Ctrl-C has said so."""
    settings = {
        "MONGO_CONNECTION_STRING": mongo_uri,
        "DATABASE_NAME": f"e2e_{tmp_path.name}"[:60],
        "DARKROOM_SHUTDOWN_SECONDS": "600",
    }
    csv = tmp_path / "products.csv"
    async with served({"a.jpg": photograph()}) as sources, up(folder=tmp_path, **settings) as stuck:
        sources.close()
        csv.write_text(HEADER + f"1,A,{sources.link('a.jpg')}\n")
        assert (await darkroom("submit", "products.csv", "--url", stuck.url, folder=tmp_path)).code == 0
        await sources.waiting_for(1)
        family = stuck.family()
        stuck.process.send_signal(signal.SIGINT)
        assert stuck.process.stdout is not None
        async with asyncio.timeout(20):
            assert await stuck.process.stdout.readline() == (
                b"Stopping: what is running has up to 600 s to finish; Ctrl-C again ends everything at once.\n"
            )
        await stuck.logged("service.stopping", 3)
        assert await stuck.stop() == 130
        await gone(family)
        sources.open()


async def test_a_setting_that_a_service_refuses_stops_up_with_its_sentence(tmp_path: Path, mongo_uri: str) -> None:
    """The notifier knows what is wrong with the secret; `up` says it and ends, instead of trying again for ever."""
    settings = {"MONGO_CONNECTION_STRING": mongo_uri, "DATABASE_NAME": f"e2e_{tmp_path.name}"[:60]}
    settings |= {"DARKROOM_WEBHOOK_SECRET": "guess"}
    done = await darkroom("up", "--port", "0", folder=tmp_path, **settings)
    assert done.code == 2
    last = done.err.splitlines()[-1]
    assert last.startswith("Error: notifier cannot run: DARKROOM_WEBHOOK_SECRET")
    assert "guess" not in last
    logged = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    assert "service.died" not in {line["event"] for line in logged}


async def test_a_service_that_cannot_even_start_stops_up_with_what_it_said(tmp_path: Path, mongo_uri: str) -> None:
    """Its import error is shown after the third try; `up` does not go on for ever."""
    settings = {"MONGO_CONNECTION_STRING": mongo_uri, "DATABASE_NAME": f"e2e_{tmp_path.name}"[:60]}
    settings |= broken("watcher", tmp_path)
    done = await darkroom("up", "--port", "0", folder=tmp_path, **settings)
    assert done.code == 2
    assert "Error: watcher ended 3 times before it was ready, at last with exit code 1, saying:\n" in done.err
    assert done.err.endswith("  ImportError: watcher is broken here\nIts log stands above.\n")


async def test_a_wrong_network_stops_up_before_anything_starts_and_a_misspelt_name_is_told(tmp_path: Path) -> None:
    """One sentence about the value and one about the name, and no database was begun."""
    settings = {"DARKROOM_EGRESS_ALLOW": "127.0.0.0/99", "DARKROOM_WORKRES": "3"}
    done = await darkroom("up", "--port", "0", folder=tmp_path, **settings)
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("Error: DARKROOM_EGRESS_ALLOW")
    assert not (tmp_path / ".darkroom" / "mongo").exists()
    settings = {"DARKROOM_WORKRES": "3", "DARKROOM_WEBHOOK_SECRET": "guess"}
    done = await darkroom("up", "--port", "0", folder=tmp_path, **settings)
    assert "Warning: there is no setting DARKROOM_WORKRES; did you mean DARKROOM_WORKERS?" in done.err
