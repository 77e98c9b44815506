"""Records the commands sent to MongoDB, has their plans explained, and finds where in the code they come from."""

import ast
import copy
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from libs.mongo import Mongo

EXPLAINED = {"find", "aggregate", "count", "distinct", "update", "delete", "findAndModify"}
UNPLANNED = {"insert", "createIndexes", "commitTransaction", "abortTransaction", "getMore", "killCursors"}
"""Commands that look for nothing, or go on with what was found before."""

QUERIES = {
    "find",
    "aggregate",
    "count_documents",
    "distinct",
    "update_",
    "delete_",
    "replace_",
    "bulk_write",
    "command",
}
"""How the driver's methods begin that send what has a plan."""


class Recorder(CommandListener):
    """Keeps every command that was sent to the database, as it was sent."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        """Keeps it; called in the driver's threads."""
        if event.database_name != "admin" or event.command_name.endswith("Transaction"):
            self.commands.append({"name": event.command_name, "body": copy.deepcopy(dict(event.command))})

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Of no interest."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Of no interest: what failed had a plan too."""


@dataclass(slots=True)
class Plan:
    """How the server carries out one statement of a command."""

    statement: dict[str, Any]
    collection: str
    stages: set[str] = field(default_factory=set)
    indexes: set[str] = field(default_factory=set)
    read: int = 0

    @property
    def filter(self) -> dict[str, Any]:
        """What the statement wants, as far as it says so by a filter."""
        found: dict[str, Any] = {**self.statement, **self._one}
        return found.get("filter") or found.get("q") or found.get("query") or {}

    @property
    def hint(self) -> str | None:
        """The index that the statement asks for."""
        return {**self.statement, **self._one}.get("hint")

    @property
    def _one(self) -> dict[str, Any]:
        several = self.statement.get("updates") or self.statement.get("deletes") or [{}]
        return dict(several[0])


def statements(command: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The command as it can be explained: outside its transaction, and each of its updates or deletes by itself."""
    session = {"lsid", "txnNumber", "autocommit", "startTransaction", "readConcern", "writeConcern", "maxTimeMS"}
    bare = {name: value for name, value in command["body"].items() if name not in session and name[0] != "$"}
    several = {"update": "updates", "delete": "deletes"}.get(command["name"])
    if several is None:
        yield bare
        return
    for one in bare[several]:
        yield {**bare, several: [one]}


async def plan_of(mongo: Mongo, name: str, statement: dict[str, Any]) -> Plan:
    """Asks the server how it carries the statement out; nothing is changed by that."""
    plan = Plan(statement, statement[name])
    answer = await mongo.database.command("explain", statement, verbosity="executionStats")
    for winning in found_in(answer, "winningPlan"):
        plan.stages.update(found_in(winning, "stage"))
        plan.indexes.update(found_in(winning, "indexName"))
    for stats in found_in(answer, "executionStats"):
        plan.read += max(stats["totalKeysExamined"], stats["totalDocsExamined"])
    return plan


def found_in(answer: Any, name: str) -> Iterator[Any]:
    """Every value called `name`, at any depth."""
    if isinstance(answer, Mapping):
        for key, value in answer.items():
            if key == name:
                yield value
            yield from found_in(value, name)
    elif isinstance(answer, list):
        for value in answer:
            yield from found_in(value, name)


def call_sites(packages: Iterable[ModuleType]) -> set[tuple[str, int]]:
    """Where the code of `packages` calls something of the driver's that has a plan, by file and line."""
    folders = [Path(str(package.__file__)).parent for package in packages]
    return {
        (str(path), node.lineno)
        for folder in folders
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr.startswith(tuple(QUERIES))
    }


@contextmanager
def lines_run(files: set[str]) -> Iterator[set[tuple[str, int]]]:
    """The lines of `files` that this thread runs meanwhile."""
    lines: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)
