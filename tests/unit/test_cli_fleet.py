"""What `darkroom up` tells each of its services."""

import socket
from pathlib import Path

import pytest

from services.cli.amounts import saving, size
from services.cli.fleet import Fleet, PortTakenError, usable_port
from services.cli.process import Command


def fleet(*, watchers: int = 1, notifiers: int = 1, logs: Path | None = None) -> dict[str, Command]:
    """The commands of a fleet by name."""
    made = Fleet(
        {"SHARED": "yes"},
        port=8123,
        workers=3,
        webhook_secret="whsec_x",  # noqa: S106 (not one)
        watchers=watchers,
        notifiers=notifiers,
        watcher_port=9001,
        notifier_port=9002,
        logs=logs,
    )
    return {command.name: command for command in made.commands()}


def test_a_single_service_of_a_kind_has_its_own_port(tmp_path: Path) -> None:
    """One of each is named like its service, and listens where the settings say."""
    commands = fleet(logs=tmp_path)
    assert list(commands) == ["ingest", "watcher", "notifier"]
    assert commands["ingest"].environment["DARKROOM_PORT"] == "8123"
    assert commands["watcher"].environment["DARKROOM_WATCHER_PORT"] == "9001"
    assert commands["notifier"].environment["DARKROOM_NOTIFIER_PORT"] == "9002"
    assert commands["watcher"].log == tmp_path / "watcher.log"


def test_the_first_of_several_has_the_port_that_is_set_and_the_others_any() -> None:
    """They cannot share one; each is told its own name for its logs."""
    commands = fleet(watchers=2, notifiers=2)
    assert list(commands) == ["ingest", "watcher-1", "watcher-2", "notifier-1", "notifier-2"]
    assert [commands[f"watcher-{n}"].environment["DARKROOM_WATCHER_PORT"] for n in (1, 2)] == ["9001", "0"]
    assert [commands[f"notifier-{n}"].environment["DARKROOM_NOTIFIER_PORT"] for n in (1, 2)] == ["9002", "0"]
    assert all(command.argv[-2:] == ("--name", name) for name, command in commands.items())
    assert commands["watcher-2"].environment["DARKROOM_WORKERS"] == "3"


def test_all_share_the_common_settings_and_only_notifiers_the_secret() -> None:
    """The service that decodes strangers' images cannot sign."""
    for name, command in fleet().items():
        assert command.environment["SHARED"] == "yes"
        assert command.environment["DARKROOM_PORT"] == "8123"
        assert command.environment["DARKROOM_WEBHOOK_SECRET"] == ("whsec_x" if name == "notifier" else "")


def test_a_port_that_is_listened_on_is_refused_and_0_finds_another() -> None:
    """The sentence names port and host."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"Port {port} of 127\.0\.0\.1 cannot be used"):
            usable_port("127.0.0.1", port)
        found = usable_port("127.0.0.1", 0)
    with socket.create_server(("127.0.0.1", found)):
        assert found != port


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (2.5e12, "2.5 TB"), (-1500, "-1.5 kB")],
)
def test_sizes_read_well(count: float, text: str) -> None:
    """At most four digits, in powers of 1,000."""
    assert size(count) == text


def test_savings_are_whole_per_cent() -> None:
    """Of nothing, nothing is saved."""
    assert (saving(1000, 180), saving(0, 0), saving(100, 110)) == ("82 %", "0 %", "-10 %")
