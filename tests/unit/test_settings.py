"""Settings from the environment and from `.env`."""

from pathlib import Path

import pytest

from libs.runtime.settings import InvalidSettingsError, load, unknown_names
from services.watcher.settings import WatcherSettings


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without a `.env`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_three_old_names_keep_working(monkeypatch: pytest.MonkeyPatch) -> None:
    """MONGO_CONNECTION_STRING, DATABASE_NAME and COLLECTION_NAME are read without a prefix."""
    monkeypatch.setenv("MONGO_CONNECTION_STRING", "mongodb://db/?replicaSet=rs9")
    monkeypatch.setenv("DATABASE_NAME", "shop")
    monkeypatch.setenv("COLLECTION_NAME", "jobs")
    settings = load(WatcherSettings)
    assert settings.mongo_connection_string == "mongodb://db/?replicaSet=rs9"
    assert (settings.database_name, settings.collection_name) == ("shop", "jobs")


def test_the_environment_comes_before_the_file_and_overrides_before_both(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An override by field name beats the environment, which beats `.env`, which beats the default."""
    (empty_folder / ".env").write_text("DARKROOM_PORT=1111\nDARKROOM_IN_FLIGHT=3\nDARKROOM_QUALITY_OF_OTHERS=1\n")
    monkeypatch.setenv("DARKROOM_PORT", "2222")
    assert (load(WatcherSettings).port, load(WatcherSettings).in_flight) == (2222, 3)
    assert load(WatcherSettings, port=3333).port == 3333


def test_networks_are_a_comma_separated_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form that the README uses is read as two networks."""
    monkeypatch.setenv("DARKROOM_EGRESS_ALLOW", "127.0.0.0/8,::1/128")
    assert [str(network) for network in load(WatcherSettings).egress_allow] == ["127.0.0.0/8", "::1/128"]


def test_the_memory_of_images_follows_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gibibyte for each of them, unless it is set; where their number is wrong, that alone is told."""
    monkeypatch.setenv("DARKROOM_WORKERS", "3")
    assert load(WatcherSettings).codec_memory_bytes == 3 << 30
    assert load(WatcherSettings, codec_memory_bytes=1 << 20).codec_memory_bytes == 1 << 20
    with pytest.raises(InvalidSettingsError) as caught:
        load(WatcherSettings, workers=0)
    assert "CODEC_MEMORY" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DARKROOM_PORT", "70000"),
        ("DARKROOM_EGRESS_ALLOW", "10.0.0.0/33"),
        ("DARKROOM_LOG_FORMAT", "xml"),
        ("DARKROOM_PUBLIC_URL", "example.org"),
        ("DARKROOM_OPERATION_SECONDS", "5"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The error is a sentence with the setting's name; 5 s leave no room for three renewals in a lease of 15 s."""
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettingsError, match=name):
        load(WatcherSettings)


def test_misspelt_names_are_found_and_other_services_names_are_not(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name no service reads is reported, from the environment and from the file."""
    (empty_folder / ".env").write_text("DARKROOM_PROT=1\nDARKROOM_WEBHOOK_SECONDS=5\nOTHER=1\n")
    monkeypatch.setenv("DARKROOM_WROKERS", "4")
    assert unknown_names() == ["DARKROOM_PROT", "DARKROOM_WROKERS"]


@pytest.mark.parametrize(
    ("host", "port", "public_url", "base"),
    [
        ("127.0.0.1", 8000, "", "http://127.0.0.1:8000"),
        ("0.0.0.0", 8000, "", "http://127.0.0.1:8000"),  # noqa: S104
        ("::1", 9, "", "http://[::1]:9"),
        ("0.0.0.0", 8000, "https://images.example.org/", "https://images.example.org"),  # noqa: S104
    ],
)
def test_output_urls_have_a_base(host: str, port: int, public_url: str, base: str) -> None:
    """The public URL where it is set, else the address listened on."""
    assert load(WatcherSettings, host=host, port=port, public_url=public_url).base_url() == base
