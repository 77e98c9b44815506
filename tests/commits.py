"""Steps in between the transactions of what is under test."""

from collections.abc import Callable

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent


class BehindCommit(CommandListener):
    """Calls `then` behind the commit of the `count`th transaction, whose caller waits for it (in a driver's thread)."""

    def __init__(self, count: int, then: Callable[[], object]) -> None:
        self._left = count
        self._then = then

    def started(self, event: CommandStartedEvent) -> None:
        """Nothing is done by then."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Counts commits."""
        if event.command_name == "commitTransaction":
            self._left -= 1
            if self._left == 0:
                self._then()

    def failed(self, event: CommandFailedEvent) -> None:
        """Such a commit is repeated."""
