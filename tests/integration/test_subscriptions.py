"""Endpoints on a real MongoDB."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.documents import Documents, Endpoint, NewEndpoint, TooManyEndpointsError, TooManySecretsError
from libs.documents.endpoints import MOST_ENDPOINTS, MOST_SECRETS
from libs.webhooks import parse_secret

URL = "https://shop.example/hooks/darkroom"
UNKNOWN = "ep_" + "0" * 32


async def created(documents: Documents, url: str = URL, **said: Any) -> Endpoint:
    """A new endpoint."""
    return await documents.endpoints.create(NewEndpoint(url, **said))


async def again(documents: Documents, endpoint: Endpoint) -> Endpoint:
    """The endpoint as it stands now."""
    found = await documents.endpoints.get(endpoint.id)
    assert found is not None
    return found


async def backdate(documents: Documents, endpoint: Endpoint, name: str, **ago: float) -> None:
    """Moves one of its times into the past, by the server's clock."""
    milliseconds = timedelta(**ago) // timedelta(milliseconds=1)
    change = [{"$set": {name: {"$subtract": ["$$NOW", milliseconds]}}}]
    await documents.mongo.collection("endpoints").update_one({"_id": endpoint.id}, change)


async def test_an_endpoint_is_kept_as_it_was_said(documents: Documents) -> None:
    """Every field comes back, text that looks like one of MongoDB's paths too, with a secret that signs."""
    made = await created(
        documents,
        "https://Shop.example:8443/h?$a=$b",
        events=["image.failed"],
        description="$$NOW",
        headers={"Authorization": "$secrets"},
        rate_limit=2.5,
    )

    assert made == await again(documents, made)
    assert (made.url, made.host) == ("https://Shop.example:8443/h?$a=$b", "shop.example:8443")
    assert (made.events, made.description, made.rate_limit) == (["image.failed"], "$$NOW", 2.5)
    assert made.headers == {"Authorization": "$secrets"}
    assert (made.enabled, made.disabled, made.failing_since, made.warned_at) == (True, None, None, None)
    assert made.created_at == made.updated_at == made.secrets[0].created_at
    [secret] = made.secrets
    assert secret.expires_at is None
    assert len(parse_secret(secret.key)) == 32


async def test_an_endpoint_shows_no_secret_in_a_log(documents: Documents) -> None:
    """Neither its secrets nor the values of its headers stand in what a log line or a traceback prints of it."""
    made = await created(documents, headers={"Authorization": "Bearer hush"})

    assert made.secrets[0].key not in repr(made)
    assert "hush" not in repr(made)
    assert "hush" not in repr(NewEndpoint(URL, headers={"Authorization": "Bearer hush"}))


async def test_what_is_not_there_cannot_be_changed(documents: Documents) -> None:
    """Every call says so, and makes nothing."""
    endpoints = documents.endpoints

    assert await endpoints.get(UNKNOWN) is None
    assert await endpoints.update(UNKNOWN, enabled=True) is None
    assert await endpoints.rotate(UNKNOWN, overlap_seconds=60) is None
    assert await endpoints.disable(UNKNOWN, "gone") is None
    assert await endpoints.warn(UNKNOWN, failing_seconds=0) is None
    assert not await endpoints.delete(UNKNOWN)
    await endpoints.note_failure([UNKNOWN])
    await endpoints.note_success([UNKNOWN])
    assert await endpoints.page(10) == []


async def test_a_deleted_endpoint_is_gone(documents: Documents) -> None:
    """With its secrets; the others stay."""
    gone, stays = await created(documents), await created(documents)

    assert await documents.endpoints.delete(gone.id)

    assert not await documents.endpoints.delete(gone.id)
    assert await documents.endpoints.of([gone.id, stays.id]) == {stays.id: stays}


async def test_pages_go_from_the_newest_to_the_oldest(documents: Documents) -> None:
    """Each endpoint once, whatever is made or deleted meanwhile."""
    made = sorted([await created(documents) for _ in range(5)], key=lambda endpoint: endpoint.id)

    first = await documents.endpoints.page(2)
    await created(documents)
    await documents.endpoints.delete(first[-1].id)
    second = await documents.endpoints.page(2, behind=first[-1].id)
    third = await documents.endpoints.page(2, behind=second[-1].id)

    assert [*first, *second, *third] == made[::-1]


# --- what is wanted --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("event", "wanted_by"),
    [
        ("request.completed", {"everything", "completed", "both"}),
        ("request.failed", {"everything"}),
        ("image.failed", {"image", "both"}),
        ("webhook.test", set[str]()),
    ],
)
async def test_an_event_goes_to_who_wants_it(documents: Documents, event: str, wanted_by: set[str]) -> None:
    """Who names no event wants those of requests; one of images is sent to who names it, and none to who is off."""
    wants = {
        "everything": [],
        "completed": ["request.completed"],
        "image": ["image.failed"],
        "both": ["request.completed", "image.failed"],
    }
    for name, events in wants.items():
        await created(documents, events=events, description=name)
        await created(documents, events=events, description="off", enabled=False)

    assert {endpoint.description for endpoint in await documents.endpoints.wanting(event)} == wanted_by


# --- changes ---------------------------------------------------------------------------------------------------------
async def test_a_change_touches_nothing_else(documents: Documents) -> None:
    """What is not named stays, the secrets too; `updated_at` moves on."""
    made = await created(documents, description="before", headers={"X-A": "1", "X-B": "2"}, rate_limit=1.0)

    changed = await documents.endpoints.update(
        made.id, url="https://other.example/", headers={"X-C": "$x"}, rate_limit=None, events=["image.failed"]
    )

    assert changed is not None
    assert (changed.url, changed.host) == ("https://other.example/", "other.example")
    assert (changed.headers, changed.rate_limit, changed.events) == ({"X-C": "$x"}, None, ["image.failed"])
    assert (changed.description, changed.secrets, changed.created_at) == ("before", made.secrets, made.created_at)
    assert changed.updated_at >= made.updated_at
    assert changed == await again(documents, made)


async def test_an_owner_disables_and_enables(documents: Documents) -> None:
    """The reason is the owner; once it is enabled there is none."""
    made = await created(documents)

    off = await documents.endpoints.update(made.id, enabled=False)
    assert off is not None
    assert off.disabled is not None
    assert (off.enabled, off.disabled.reason) == (False, "by_owner")
    assert off.disabled.at >= made.created_at
    on = await documents.endpoints.update(made.id, enabled=True)
    assert on is not None
    assert (on.enabled, on.disabled) == (True, None)


async def test_the_first_reason_for_being_disabled_stays(documents: Documents) -> None:
    """Of several that disable it one is told so, and its owner sees that one's reason."""
    made = await created(documents)

    told = await asyncio.gather(*(documents.endpoints.disable(made.id, "gone") for _ in range(5)))
    assert await documents.endpoints.disable(made.id, "failing") is None
    await documents.endpoints.update(made.id, enabled=False)

    [disabled] = [endpoint for endpoint in told if endpoint is not None]
    assert disabled.disabled is not None
    assert disabled.disabled.reason == "gone"
    assert (await again(documents, made)).disabled == disabled.disabled


@pytest.mark.parametrize(
    ("changes", "forgotten"),
    [
        ({"url": "https://other.example/"}, True),
        ({"url": URL}, False),
        ({"enabled": True}, False),
        ({"enabled": True, "url": "https://other.example/"}, True),
        ({"enabled": False}, False),
        ({"description": "x"}, False),
    ],
)
async def test_a_new_address_has_not_failed_yet(documents: Documents, changes: Any, forgotten: bool) -> None:
    """What is known of the failures of an endpoint goes with its URL, and with nothing else while it is enabled."""
    made = await created(documents)
    await documents.endpoints.note_failure([made.id])
    await documents.endpoints.warn(made.id, failing_seconds=0)

    changed = await documents.endpoints.update(made.id, **changes)

    assert changed is not None
    assert (changed.failing_since is None, changed.warned_at is None) == (forgotten, forgotten)


async def test_one_that_is_enabled_again_begins_anew(documents: Documents) -> None:
    """Otherwise the first failure after that would disable it again."""
    made = await created(documents)
    await documents.endpoints.note_failure([made.id])
    await documents.endpoints.warn(made.id, failing_seconds=0)
    assert await documents.endpoints.disable(made.id, "failing", failing_seconds=0)

    enabled = await documents.endpoints.update(made.id, enabled=True)

    assert enabled is not None
    assert (enabled.disabled, enabled.failing_since, enabled.warned_at) == (None, None, None)


# --- failing ---------------------------------------------------------------------------------------------------------
async def test_failing_begins_with_the_first_failure_and_ends_with_a_success(documents: Documents) -> None:
    """Later failures do not move its beginning; a success forgets it and the warning."""
    made, other = await created(documents), await created(documents)

    await documents.endpoints.note_failure([made.id])
    began = (await again(documents, made)).failing_since
    await documents.endpoints.note_failure([made.id, other.id])
    assert began is not None
    assert (await again(documents, made)).failing_since == began
    assert (await again(documents, other)).failing_since is not None
    assert await documents.endpoints.warn(made.id, failing_seconds=0)
    await documents.endpoints.note_success([made.id])

    assert await again(documents, made) == made
    assert (await again(documents, other)).failing_since is not None


async def test_what_changes_nothing_writes_nothing(documents: Documents) -> None:
    """A success where nothing failed and a failure where it fails already cost a read, and leave the oplog as it is."""
    good, bad = await created(documents), await created(documents)
    await documents.endpoints.note_failure([bad.id])

    async def updates() -> int:
        status = await documents.mongo.database.command("serverStatus", opcounters=1)
        return int(status["opcounters"]["update"])

    before = await updates()
    for _ in range(20):
        await documents.endpoints.note_success([good.id])
        await documents.endpoints.note_failure([bad.id])
    assert await updates() - before < 20  # other tests' processes may write to the same server


async def test_a_warning_is_told_once_and_in_time(documents: Documents) -> None:
    """Not before it has failed for so long, by the server's clock, and by one of several callers."""
    made = await created(documents)
    assert await documents.endpoints.warn(made.id, failing_seconds=0) is None  # it does not fail
    await backdate(documents, made, "failing_since", days=2.4)
    assert await documents.endpoints.warn(made.id, failing_seconds=2.5 * 86400) is None
    await backdate(documents, made, "failing_since", days=2.6)

    told = await asyncio.gather(*(documents.endpoints.warn(made.id, failing_seconds=2.5 * 86400) for _ in range(5)))

    assert sum(warned is not None for warned in told) == 1
    assert (await again(documents, made)).warned_at is not None


async def test_who_fails_for_long_enough_is_disabled(documents: Documents) -> None:
    """Not a moment sooner, and not when a success came in between."""
    made = await created(documents)
    five_days = 5 * 86400.0
    await backdate(documents, made, "failing_since", days=4.99)
    assert await documents.endpoints.disable(made.id, "failing", failing_seconds=five_days) is None
    await documents.endpoints.note_success([made.id])
    assert await documents.endpoints.disable(made.id, "failing", failing_seconds=five_days) is None
    await backdate(documents, made, "failing_since", days=5.01)

    disabled = await documents.endpoints.disable(made.id, "failing", failing_seconds=five_days)

    assert disabled is not None
    assert disabled.disabled is not None
    assert disabled.disabled.reason == "failing"
    assert await documents.endpoints.wanting("request.completed") == []


# --- secrets ---------------------------------------------------------------------------------------------------------
async def test_both_secrets_sign_during_the_overlap(documents: Documents) -> None:
    """The new one first; the one before until its time is over, and nothing after that."""
    made = await created(documents)

    rotated = await documents.endpoints.rotate(made.id, overlap_seconds=3600)

    assert rotated is not None
    new, old = rotated.secrets
    assert old.key == made.secrets[0].key != new.key
    assert new.expires_at is None
    assert old.expires_at == new.created_at + timedelta(hours=1)
    assert rotated.keys_at(new.created_at) == [new.key, old.key]
    assert rotated.keys_at(old.expires_at) == [new.key]


async def test_a_second_rotation_prolongs_no_secret(documents: Documents) -> None:
    """Each keeps the end it has, and one that has ended is forgotten."""
    made = await created(documents)
    first = await documents.endpoints.rotate(made.id, overlap_seconds=60)
    second = await documents.endpoints.rotate(made.id, overlap_seconds=3600)
    assert first is not None
    assert second is not None
    assert second.secrets[2] == first.secrets[1]
    over = {"$set": {"secrets.2.expires_at": made.created_at}}
    await documents.mongo.collection("endpoints").update_one({"_id": made.id}, over)

    third = await documents.endpoints.rotate(made.id, overlap_seconds=60)

    assert third is not None
    assert [secret.key for secret in third.secrets[1:]] == [secret.key for secret in second.secrets[:2]]


async def test_a_secret_that_has_leaked_signs_no_more(documents: Documents) -> None:
    """Nor do those before it, in an overlap of their own; however many there are, that is never refused."""
    made = await created(documents)
    for _ in range(MOST_SECRETS - 1):
        assert await documents.endpoints.rotate(made.id, overlap_seconds=3600)

    rotated = await documents.endpoints.rotate(made.id, overlap_seconds=0)

    assert rotated is not None
    [only] = rotated.secrets
    assert only.expires_at is None
    assert only.key not in {secret.key for secret in made.secrets}


async def test_no_more_than_five_secrets_sign_at_once(documents: Documents) -> None:
    """A further rotation is refused, and leaves the secrets as they are."""
    made = await created(documents)
    for _ in range(MOST_SECRETS - 1):
        assert await documents.endpoints.rotate(made.id, overlap_seconds=3600)

    with pytest.raises(TooManySecretsError):
        await documents.endpoints.rotate(made.id, overlap_seconds=3600)

    kept = await again(documents, made)
    assert len(kept.keys_at(datetime.now(UTC))) == MOST_SECRETS


# --- how many --------------------------------------------------------------------------------------------------------
async def test_there_are_never_more_than_a_thousand(documents: Documents) -> None:
    """However many are made at the same time for the last places; one that is deleted makes room."""
    full = [
        {"_id": f"ep_{n}", "place": n, "enabled": False, "events": []} for n in range(MOST_ENDPOINTS) if n % 400 != 7
    ]
    await documents.mongo.collection("endpoints").insert_many(full)

    made = await asyncio.gather(*(created(documents) for _ in range(8)), return_exceptions=True)

    assert sum(isinstance(endpoint, Endpoint) for endpoint in made) == 3
    assert sum(isinstance(endpoint, TooManyEndpointsError) for endpoint in made) == 5
    assert await documents.endpoints.delete("ep_0")
    await created(documents)
