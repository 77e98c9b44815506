"""The embedded MongoDB: found, started, formed into a set, and gone with its parent."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from libs.mongo import EmbeddedMongo, Mongo, MongodNotFoundError, OtherReplicaSetError, StandaloneServerError
from libs.mongo.mongod import find_mongod

PARENT = """
import asyncio, pathlib, sys
from libs.mongo import EmbeddedMongo
async def main():
    async with EmbeddedMongo(pathlib.Path(sys.argv[1])) as embedded:
        print(embedded.running[0].process.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_data_survives_a_restart_on_other_ports(tmp_path: Path) -> None:
    """The same folder comes up again with its documents, though the ports are new."""
    async with EmbeddedMongo(tmp_path) as embedded:
        mongo = Mongo.connect(embedded.uri, "kept")
        await mongo.collection("things").insert_one({"_id": 1})
        mongo.close()
    async with EmbeddedMongo(tmp_path) as embedded:
        mongo = Mongo.connect(embedded.uri, "kept")
        assert await mongo.collection("things").find_one() == {"_id": 1}
        mongo.close()


async def test_three_members_elect_another_primary(tmp_path: Path) -> None:
    """When the primary is killed, a majority write succeeds on another member."""
    async with EmbeddedMongo(tmp_path, members=3) as embedded:
        mongo = Mongo.connect(embedded.uri, "ha", operation_seconds=30)
        await mongo.collection("things").insert_one({"_id": 1})
        primary = (await mongo.client.admin.command("hello"))["primary"]
        [member] = [member for member in embedded.running if member.address == primary]
        assert member.process is not None
        member.process.kill()
        await member.process.wait()
        await mongo.collection("things").insert_one({"_id": 2})
        assert (await mongo.client.admin.command("hello"))["primary"] != primary
        mongo.close()


async def test_the_server_goes_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """After kill -9 of the process that started it, mongod ends by itself."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert parent.stdout is not None
    async with asyncio.timeout(60):
        while not (line := await parent.stdout.readline()).strip().isdigit():
            assert line, "the parent ended before its server was ready"
    server = psutil.Process(int(line))
    assert server.is_running()
    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()
    await asyncio.to_thread(psutil.wait_procs, [server], timeout=30)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


async def test_a_standalone_server_is_refused_with_an_explanation(tmp_path: Path) -> None:
    """A server outside a replica set has no change streams, and the error says what to do."""
    async with EmbeddedMongo(tmp_path) as embedded:
        [member] = embedded.running
        assert member.process is not None
        member.process.terminate()
        await member.process.wait()
        standalone = await asyncio.create_subprocess_exec(
            *(str(find_mongod()), "--dbpath", str(member.folder), "--port", str(member.port)),
            *("--bind_ip", "127.0.0.1", "--nounixsocket", "--logpath", str(tmp_path / "standalone.log")),
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            for options in ("", "/?replicaSet=rs0"):
                mongo = Mongo.connect(f"mongodb://{member.address}{options}", "alone", operation_seconds=5)
                with pytest.raises(StandaloneServerError, match="replSet"):
                    await mongo.check_server()
                mongo.close()
        finally:
            standalone.terminate()
            await standalone.wait()


async def test_a_replica_set_of_another_name_is_told_by_both_names(mongo_uri: str) -> None:
    """The driver leaves such a server out as if it were not there; the error says what to mend."""
    mongo = Mongo.connect(mongo_uri.replace("replicaSet=darkroom", "replicaSet=rs0"), "named", operation_seconds=1)
    with pytest.raises(OtherReplicaSetError, match=r"'darkroom'.*'rs0'"):
        await mongo.check_server()
    mongo.close()


def test_a_mongod_on_path_comes_first(tmp_path: Path) -> None:
    """The executable on PATH is preferred to the one in the wheel."""
    mongod = tmp_path / "mongod"
    mongod.write_text("#!/bin/sh\n")
    mongod.chmod(0o755)
    assert find_mongod(str(tmp_path)) == mongod


def test_without_any_server_the_error_says_what_to_install() -> None:
    """Neither on PATH nor from the wheel: one sentence names the ways out."""
    with pytest.raises(MongodNotFoundError, match=r"MONGO_CONNECTION_STRING.*PATH.*install no-such-wheel"):
        find_mongod("", wheel="no-such-wheel")
