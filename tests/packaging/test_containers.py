"""`deploy/Dockerfile` and `docker-compose.yml`, as far as they can be held without Docker."""

import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from libs.runtime.settings import PREFIX, known_names

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = YAML(typ="safe").load(COMPOSE_TEXT)
SERVICES = ("ingest", "watcher", "notifier")
SCALING = ("watcher", "notifier")


def stages() -> dict[str, list[str]]:
    """The instructions of each stage of the Dockerfile, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    found: dict[str, list[str]] = {}
    for line in joined.splitlines():
        if line.startswith("FROM "):
            found[line.split(" AS ")[1]] = instructions = []
        if line and not line.startswith("#"):
            instructions.append(line)
    return found


def run(program: str, *arguments: str) -> None:
    """Runs a checker of this environment at the top of the tree and fails with what it printed."""
    done = subprocess.run([SCRIPTS / program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def seconds(duration: str) -> float:
    """A duration as compose writes it, such as 30s."""
    return float(duration.removesuffix("s"))


def test_the_compose_file_follows_the_compose_specification() -> None:
    """The file is valid by the schema of the specification."""
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    """The Dockerfile has no finding of any severity."""
    run("hadolint", "--no-color", "--failure-threshold", "style", "deploy/Dockerfile")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_a_target_that_runs_it_without_root_or_a_shell(service: str) -> None:
    """Each target runs its module as an exec-form entry point, as a user that is not root."""
    instructions = stages()[service]
    assert f'ENTRYPOINT ["python", "-m", "services.{service}"]' in instructions
    (user,) = (line.removeprefix("USER ") for line in instructions if line.startswith("USER "))
    assert int(user.split(":")[0]) > 0


@pytest.mark.parametrize("service", SERVICES)
def test_locked_dependencies_go_into_an_image_before_the_source(service: str) -> None:
    """A change of the source leaves the layer of the dependencies as it is."""
    installs = [line for line in stages()[service] if "pip install" in line]
    assert [f"--require-hashes -r /tmp/{service}.lock" in line for line in installs] == [True, False]
    assert "--no-deps" in installs[1]


def test_every_base_image_is_pinned_to_a_version() -> None:
    """No image follows a moving `latest`."""
    images = [line.split()[1] for line in re.findall(r"^FROM .*$", DOCKERFILE, re.MULTILINE)]
    images = [image for image in images if image not in stages()] + [COMPOSE["services"]["mongo"]["image"]]
    assert len(images) == 2
    assert all(re.search(r":\d+\.\d+", image) for image in images)


def test_the_compose_file_has_mongo_and_every_service_from_its_target() -> None:
    """The four services stand in the file, ours built from the target of the same name."""
    assert set(COMPOSE["services"]) == {"mongo", *SERVICES}
    for service in SERVICES:
        build = COMPOSE["services"][service]["build"]
        assert build["target"] == service
        assert (ROOT / build["dockerfile"]).is_file()
        assert service in stages()


@pytest.mark.parametrize("service", SCALING)
def test_what_scales_has_no_fixed_name_and_no_port_of_the_host(service: str) -> None:
    """Three watchers or notifiers can run side by side."""
    assert not {"container_name", "hostname", "ports"} & set(COMPOSE["services"][service])


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_waits_for_mongo_and_says_when_it_is_ready(service: str) -> None:
    """A service starts after a writable primary, and its health is its own readiness at the port that it is given."""
    definition = COMPOSE["services"][service]
    assert definition["depends_on"] == {"mongo": {"condition": "service_healthy"}}
    name = f"{PREFIX}PORT" if service == "ingest" else f"{PREFIX}{service.upper()}_PORT"
    assert f"http://127.0.0.1:{definition['environment'][name]}/readyz" in definition["healthcheck"]["test"][-1]


@pytest.mark.parametrize("service", SERVICES)
def test_a_stopping_service_is_killed_only_after_its_own_time_to_stop(service: str) -> None:
    """The grace period leaves room for DARKROOM_SHUTDOWN_SECONDS and for closing connections."""
    definition = COMPOSE["services"][service]
    own_seconds = float(definition["environment"][f"{PREFIX}SHUTDOWN_SECONDS"])
    assert seconds(definition["stop_grace_period"]) >= own_seconds + 5


def test_the_compose_file_uses_only_settings_that_exist() -> None:
    """A misspelt setting in the compose file is found."""
    used = set(re.findall(rf"\b({PREFIX}[A-Z_]+)\b", COMPOSE_TEXT))
    used |= {name for service in SERVICES for name in COMPOSE["services"][service]["environment"]}
    assert used <= known_names()


def test_only_the_notifier_gets_the_signing_secret_and_does_not_start_without_one() -> None:
    """The secret comes from `.env`, is demanded, and stays away from the service that decodes strangers' images."""
    secrets = {service: COMPOSE["services"][service]["environment"][f"{PREFIX}WEBHOOK_SECRET"] for service in SERVICES}
    assert secrets["notifier"].startswith(f"${{{PREFIX}WEBHOOK_SECRET:?")
    assert secrets["ingest"] == secrets["watcher"] == ""


def test_watchers_and_ingest_share_a_folder_that_their_user_may_write() -> None:
    """The outputs' volume is mounted where both look for it, at a folder that the images make for their user."""
    for service in ("ingest", "watcher"):
        definition = COMPOSE["services"][service]
        folder = definition["environment"][f"{PREFIX}STORAGE"].removeprefix("file://")
        assert f"images:{folder}" in definition["volumes"]
        assert any(re.search(rf"install --directory --owner darkroom .*{folder}$", line) for line in stages()["base"])


def test_mongo_becomes_a_replica_set_by_its_own_healthcheck() -> None:
    """The check initiates the set of the connection string and passes only on a writable primary."""
    mongo = COMPOSE["services"]["mongo"]
    assert mongo["command"][:2] == ["--replSet", "rs0"]
    check = mongo["healthcheck"]["test"][-1]
    assert "rs.initiate({_id: 'rs0'" in check
    assert "isWritablePrimary" in check
    for service in SERVICES:
        assert "replicaSet=rs0" in COMPOSE["services"][service]["environment"]["MONGO_CONNECTION_STRING"]
