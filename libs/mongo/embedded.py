"""A MongoDB replica set of our own on this machine: one member to run on, three for tests of failover."""

import asyncio
import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import OperationFailure, PyMongoError

from libs.mongo.mongod import find_mongod
from libs.runtime.tether import tethered

_log = structlog.get_logger()
_SET_NAME = "darkroom"
_ALREADY_INITIALIZED = 23
_RESTART_SECONDS = 1.0
# One machine: a silent member is a dead one. When the primary dies, its followers look for another member to follow at
# once and then each second, and there is no majority to write to until one has found the new primary. An election 1.4
# to 1.6 s after the death, and a heartbeat that tells of what the new primary has written, come before the look at 2 s.
_ELECTION = {"heartbeatIntervalMillis": 250, "electionTimeoutMillis": 1400}


class MongodFailedError(Exception):
    """The embedded MongoDB did not start; the message says why and where its log is."""


@dataclass(slots=True)
class Member:
    """One mongod process of the set; `process` is None while it is stopped."""

    number: int
    port: int
    folder: Path
    process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self.folder / "mongod.log"


@dataclass(slots=True)
class EmbeddedMongo:
    """A replica set on free loopback ports, with its data under `folder`.

    It stops with the process that started it, even when that is killed. Data survives a restart; the ports are new
    each time, and the set's configuration, which remembers them, is changed.
    """

    folder: Path
    members: int = 1
    options: Sequence[str] = ()
    start_seconds: float = 60.0
    stop_seconds: float = 20.0
    running: list[Member] = field(default_factory=list, init=False)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def uri(self) -> str:
        """The connection string."""
        hosts = ",".join(member.address for member in self.running)
        return f"mongodb://{hosts}/?replicaSet={_SET_NAME}"

    async def start(self) -> None:
        """Starts the members, forms the set and returns when a primary takes writes.

        Raises:
            MongodNotFoundError: there is no server to run.
            MongodFailedError: a server ended or no primary came up within `start_seconds`.
        """
        executable = find_mongod()
        for number in range(self.members):
            folder = self.folder / f"member{number}"
            folder.mkdir(parents=True, exist_ok=True)
            self.running.append(Member(number, _free_port(), folder))
        try:
            async with asyncio.timeout(self.start_seconds):
                for member in self.running:
                    await self.start_member(member, executable)
                await self._form_set()
        except TimeoutError:
            raise MongodFailedError(
                f"MongoDB took no writes within {self.start_seconds:g} s; see {self.running[0].log}"
            ) from None
        _log.info("mongod.ready", ports=[member.port for member in self.running])

    async def start_member(self, member: Member, executable: Path | None = None) -> None:
        """Starts one member's process and waits until it accepts connections."""
        command = [
            str(executable or find_mongod()),
            *("--dbpath", str(member.folder), "--port", str(member.port), "--bind_ip", "127.0.0.1"),
            *("--replSet", _SET_NAME, "--logpath", str(member.log), "--logappend", "--nounixsocket"),
            *("--wiredTigerCacheSizeGB", "0.5", "--setParameter", "diagnosticDataCollectionEnabled=false"),
            # Nobody is left to be told of the shutdown; with the default a member of three waits 15 s.
            *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),
            # A process that is killed inside a transaction leaves it open, and its documents locked, for so long.
            *("--setParameter", "transactionLifetimeLimitSeconds=10"),
            *self.options,
        ]
        member.process = await asyncio.create_subprocess_exec(
            *tethered(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal must reach the services first
        )
        while not await _accepts(member.port):
            if member.process.returncode is not None:
                raise MongodFailedError(await _why(member.process, member.log))
            await asyncio.sleep(0.02)

    async def keep_running(self) -> None:
        """Starts members again that end, where they were, until it is cancelled.

        Raises:
            MongodFailedError: one does not start again.
        """
        async with asyncio.TaskGroup() as tasks:
            for member in self.running:
                tasks.create_task(self._keep_running(member), name=f"keep member {member.number}")

    async def _keep_running(self, member: Member) -> None:
        while member.process is not None:
            code = await member.process.wait()
            _log.error("mongod.died", code=code, log=str(member.log), restart_in_seconds=_RESTART_SECONDS)
            await asyncio.sleep(_RESTART_SECONDS)
            await self.start_member(member)
            _log.info("mongod.running", port=member.port)

    async def _form_set(self) -> None:
        client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
            self.running[0].address, directConnection=True, serverSelectionTimeoutMS=5000
        )
        try:
            members = [{"_id": member.number, "host": member.address} for member in self.running]
            try:
                config = {"_id": _SET_NAME, "members": members, "settings": _ELECTION}
                await client.admin.command("replSetInitiate", config)
            except OperationFailure as error:
                if error.code != _ALREADY_INITIALIZED:
                    raise
                await self._readdress(client, members)
            while not (await client.admin.command("hello")).get("primary"):  # noqa: ASYNC110 (the server has no event)
                await asyncio.sleep(0.02)
        finally:
            client.close()
        await self._wait_for_writes()

    async def _readdress(self, client: AsyncIOMotorClient[dict[str, Any]], members: list[dict[str, Any]]) -> None:
        config = await client.get_database("local").get_collection("system.replset").find_one()
        if config is None or config["members"] == members:
            return
        config["members"] = members
        config["version"] += 1
        while True:
            try:
                await client.admin.command("replSetReconfig", config, force=True)
            except OperationFailure:
                await asyncio.sleep(0.05)  # still starting up: a member must have found itself in no set first
            else:
                return

    async def _wait_for_writes(self) -> None:
        client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(self.uri, w="majority")
        try:
            while True:
                with suppress(PyMongoError):  # not primary yet, or a step-down: try again until the caller's deadline
                    await client.admin.command({"appendOplogNote": 1, "data": {"darkroom": "ready"}})
                    return
                await asyncio.sleep(0.02)
        finally:
            client.close()

    async def stop(self) -> None:
        """Shuts every member down; one that does not end in time is killed. Stopping twice is fine."""
        processes = [member.process for member in self.running if member.process and member.process.returncode is None]
        for process in processes:
            with suppress(ProcessLookupError):
                process.terminate()
        for process in processes:
            try:
                async with asyncio.timeout(self.stop_seconds):
                    await process.communicate()
            except TimeoutError:
                _log.warning("mongod.killed", pid=process.pid)
                process.kill()
                await process.communicate()
        self.running.clear()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _why(process: asyncio.subprocess.Process, log: Path) -> str:
    output, _ = await process.communicate()
    printed = [line for line in output.decode(errors="replace").splitlines() if line and not line.startswith("{")]
    said = printed[0] if printed else await asyncio.to_thread(_last_error, log)
    return (
        f"The embedded MongoDB ended at its start: {said or f'exit code {process.returncode}'}. "
        f"See {log}. It needs OpenSSL 3 and libcurl4."
    )


def _last_error(log: Path) -> str:
    logged = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    errors = [entry for entry in map(_log_entry, logged) if entry.get("s") in {"E", "F"}]
    return f"{errors[-1]['msg']} {errors[-1].get('attr', {}).get('error', '')}".strip() if errors else ""


def _log_entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:  # a line that was being written
        return {}
    return entry if isinstance(entry, dict) else {}
