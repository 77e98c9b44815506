from ipaddress import ip_network

import pytest

from libs.runtime.settings import InvalidSettingsError, load
from libs.webhooks import new_secret, parse_secret
from services.notifier.settings import NotifierSettings


def test_lists_of_networks_and_of_pauses_are_both_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each comma-separated setting is split by its own rule."""
    secret = new_secret()
    monkeypatch.setenv("DARKROOM_EGRESS_ALLOW", "127.0.0.0/8, ::1/128")
    monkeypatch.setenv("DARKROOM_WEBHOOK_SCHEDULE", "5, 0.5")
    monkeypatch.setenv("DARKROOM_WEBHOOK_SECRET", secret)
    settings = load(NotifierSettings)
    assert settings.egress_allow == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert settings.webhook_schedule == (5.0, 0.5)
    assert settings.signing_key == parse_secret(secret)


@pytest.mark.parametrize("schedule", ["0", "5,-1", "nan", "5,inf", "soon"])
def test_a_schedule_has_durations_only(schedule: str) -> None:
    """A pause that is no time to wait is refused by name."""
    with pytest.raises(InvalidSettingsError, match=r"DARKROOM_WEBHOOK_SCHEDULE: "):
        load(NotifierSettings, webhook_schedule=schedule, webhook_secret=new_secret())


@pytest.mark.parametrize(("secret", "problem"), [("", "is not set"), ("hunter2", "whsec_"), ("whsec_eA==", "24 to 64")])
def test_without_a_usable_secret_there_is_no_notifier(secret: str, problem: str) -> None:
    """The sentence names the setting and how to make a secret, and keeps the wrong one to itself."""
    with pytest.raises(InvalidSettingsError, match=rf"^DARKROOM_WEBHOOK_SECRET: .*{problem}.*openssl rand") as refused:
        load(NotifierSettings, webhook_secret=secret)
    assert not secret or secret not in str(refused.value)
