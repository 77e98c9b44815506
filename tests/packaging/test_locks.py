"""The lock files in `deploy/` are whole, follow pyproject.toml and install from any index."""

import re
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = ("ingest", "watcher", "notifier", "test")
LOCKS = (*EXTRAS, "build")
PLATFORMS: tuple[dict[str, str], ...] = (
    {"sys_platform": "linux", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_machine": "arm64"},
)
# A requirement, its hashes on lines of their own, and nothing else: no option, no comment, no address.
ENTRY = re.compile(
    r"(?P<requirement>[a-z0-9-]+==[^\s\\]+( ; [^\\\n]+)?)(?P<hashes>( \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
)


def locked(lock: str) -> dict[str, Requirement]:
    """The pinned requirements of one lock file by name."""
    text = (ROOT / "deploy" / f"{lock}.lock").read_text(encoding="utf-8")
    pins = [Requirement(entry["requirement"]) for entry in ENTRY.finditer(text)]
    return {canonicalize_name(pin.name): pin for pin in pins}


def asked(extra: str) -> list[Requirement]:
    """What pyproject.toml asks for with one extra, this project's own extras resolved."""
    found = []
    for requirement in map(Requirement, PROJECT["project"]["optional-dependencies"][extra]):
        if requirement.name == PROJECT["project"]["name"]:
            found += [further for inner in sorted(requirement.extras) for further in asked(inner)]
        else:
            found.append(requirement)
    return found


def wanted(lock: str) -> list[Requirement]:
    """Every direct requirement that a lock has to satisfy."""
    if lock == "build":
        return [Requirement(line) for line in PROJECT["build-system"]["requires"]]
    return [Requirement(line) for line in PROJECT["project"]["dependencies"]] + asked(lock)


def test_every_lock_is_one_that_something_installs() -> None:
    """The images install the services' locks and the build's; what is tested stands in the tests' own."""
    assert {path.stem for path in (ROOT / "deploy").glob("*.lock")} == set(LOCKS)
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"--require-hashes -r \S*?(\w+)\.lock", dockerfile)) == set(LOCKS) - {"test"}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_hashed_pins_and_nothing_else(lock: str) -> None:
    """No index, address, path, option or unhashed entry stands in a lock file."""
    text = (ROOT / "deploy" / f"{lock}.lock").read_text(encoding="utf-8")
    assert ENTRY.sub("", text) == ""
    assert len(locked(lock)) == len(ENTRY.findall(text)) > 0


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_satisfies_what_pyproject_asks_for(lock: str) -> None:
    """A dependency that is new, or whose floor was raised above its pin, makes the lock stale: run deploy/lock."""
    pins = locked(lock)
    for requirement in wanted(lock):
        pin = pins[canonicalize_name(requirement.name)]
        (version,) = pin.specifier
        assert requirement.specifier.contains(version.version, prereleases=True), (
            f"{requirement} is pinned to {version}"
        )


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_pin_holds_on_every_platform_on_which_its_requirement_does(extra: str) -> None:
    """The locks are universal: made on one platform, they serve the others too."""
    pins = locked(extra)
    for requirement in wanted(extra):
        pin = pins[canonicalize_name(requirement.name)]
        for platform in PLATFORMS:
            environment = cast("dict[str, str]", default_environment()) | platform
            asked_there = requirement.marker is None or requirement.marker.evaluate(environment)
            assert asked_there == (pin.marker is None or pin.marker.evaluate(environment)), f"{pin} on {platform}"


@pytest.mark.parametrize("service", ["ingest", "watcher", "notifier"])
def test_services_and_their_tests_run_on_the_same_versions(service: str) -> None:
    """What is tested is what is shipped: a service's pins are those of the test lock."""
    tested = locked("test")
    for name, pin in locked(service).items():
        assert pin.specifier == tested[name].specifier
