"""The API of standing webhook endpoints, over real HTTP."""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from libs.documents import EVENTS, Documents
from libs.documents.endpoints import MOST_ENDPOINTS, MOST_SECRETS
from libs.webhooks import parse_secret
from services.ingest.webhook_models import NewWebhook
from tests.ingests import Ingest, ingesting
from tests.notifiers import notifier_settings, notifying
from tests.waiting import until
from tests.webhook_server import receiving, says

URL = "https://shop.example/hooks/darkroom"
PATH = "/api/webhooks"
UNKNOWN = f"{PATH}/ep_{'0' * 32}"


@pytest.fixture
async def ingest(documents: Documents, tmp_path: Path) -> AsyncIterator[Ingest]:
    """An ingest service with the settings it has by default."""
    async with ingesting(documents, tmp_path) as ingest:
        yield ingest


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Ingest]:
    """An ingest service without a database: what is refused never gets as far."""
    async with ingesting(None, tmp_path) as ingest:
        yield ingest


async def created(ingest: Ingest, url: str = URL, **said: Any) -> Any:
    """A new endpoint, as the answer shows it."""
    status, body = await ingest.call("POST", PATH, json={"url": url, **said})
    assert status == 201, body
    return body


async def refused(ingest: Ingest, said: Any, *, method: str = "POST", path: str = PATH) -> tuple[str, str]:
    """Code and detail of the problem 422 that a body gets."""
    status, body = await ingest.call(method, path, json=said)
    assert status == 422, body
    return body["code"], body["detail"]


# --- created, shown, changed, removed --------------------------------------------------------------------------------
async def test_an_endpoint_is_made_from_its_url_alone(ingest: Ingest) -> None:
    """It wants every event of requests, has no limit, is enabled, and is found where `Location` says."""
    async with ingest.client.post(ingest.url + PATH, json={"url": URL}) as answer:
        made = await answer.json()

    assert answer.status == 201
    assert answer.headers["Location"] == f"{PATH}/{made['id']}"
    assert (made["url"], made["events"], made["description"], made["header_names"]) == (URL, [], "", [])
    assert (made["rate_limit"], made["enabled"], made["disabled"]) == (None, True, None)
    assert made["failing_since"] is None
    status, shown = await ingest.call("GET", answer.headers["Location"])
    assert (status, shown) == (200, {name: value for name, value in made.items() if name != "secret"})


async def test_a_secret_is_shown_once(ingest: Ingest) -> None:
    """By the answer that makes it, which no cache may keep; later there are its beginning and its times."""
    async with ingest.client.post(ingest.url + PATH, json={"url": URL}) as answer:
        made = await answer.json()
        assert answer.headers["Cache-Control"] == "no-store"
    secret = made["secret"]
    assert len(parse_secret(secret)) == 32

    answers = [
        await ingest.call("GET", f"{PATH}/{made['id']}"),
        await ingest.call("GET", PATH),
        await ingest.call("PATCH", f"{PATH}/{made['id']}", json={"description": "x"}),
        await ingest.call("POST", f"{PATH}/{made['id']}/rotate"),
    ]

    assert [status for status, _ in answers] == [200] * 4
    assert secret not in json.dumps([made["secrets"], answers])
    [shown] = made["secrets"]
    assert shown == {"prefix": secret[:10], "created_at": made["created_at"], "expires_at": None}


async def test_the_values_of_headers_are_never_shown(ingest: Ingest) -> None:
    """Their names are; the values are kept, for the notifier."""
    made = await created(ingest, headers={"Authorization": "Bearer hush", "X-Shop": "hush"})

    _, shown = await ingest.call("GET", f"{PATH}/{made['id']}")

    assert made["header_names"] == shown["header_names"] == ["Authorization", "X-Shop"]
    assert "hush" not in json.dumps([made, shown])
    endpoint = await ingest.context.documents.endpoints.get(made["id"])
    assert endpoint is not None
    assert endpoint.headers == {"Authorization": "Bearer hush", "X-Shop": "hush"}


async def test_the_list_comes_page_by_page(ingest: Ingest) -> None:
    """Each endpoint once, the last page without a cursor, none with its secret."""
    made = {(await created(ingest, f"{URL}/{number}"))["id"] for number in range(5)}

    pages: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        status, page = await ingest.call("GET", PATH, params={"limit": 2, **cursor})
        assert status == 200
        pages.append(page["webhooks"])
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}

    assert [len(page) for page in pages] == [2, 2, 1]
    listed = [webhook["id"] for page in pages for webhook in page]
    assert set(listed) == made
    assert listed == sorted(made, reverse=True)
    assert not any("secret" in webhook for page in pages for webhook in page)


async def test_a_full_last_page_has_no_next(ingest: Ingest) -> None:
    """Nobody is sent to an empty page."""
    for _ in range(2):
        await created(ingest)

    assert (await ingest.call("GET", PATH, params={"limit": 2}))[1]["next"] is None


async def test_a_change_answers_with_what_is_now(ingest: Ingest) -> None:
    """What is not given stays, headers are replaced whole, and null takes the rate limit away."""
    made = await created(ingest, description="before", headers={"X-A": "1"}, rate_limit=5, events=["image.failed"])
    path = f"{PATH}/{made['id']}"

    status, changed = await ingest.call("PATCH", path, json={"headers": {"X-B": "2"}, "rate_limit": None})

    assert status == 200
    expected = {**made, "header_names": ["X-B"], "rate_limit": None, "updated_at": changed["updated_at"]}
    del expected["secret"]
    assert changed == expected
    assert await ingest.call("GET", path) == (200, changed)
    assert await ingest.call("PATCH", path, json={}) == (200, changed)


async def test_an_endpoint_is_disabled_and_enabled(ingest: Ingest) -> None:
    """Since when and why stands there while it is."""
    made = await created(ingest)
    path = f"{PATH}/{made['id']}"

    _, off = await ingest.call("PATCH", path, json={"enabled": False})
    assert (off["enabled"], off["disabled"]["reason"]) == (False, "by_owner")
    _, on = await ingest.call("PATCH", path, json={"enabled": True})
    assert (on["enabled"], on["disabled"]) == (True, None)


async def test_an_owner_sees_why_darkroom_disabled_it(ingest: Ingest) -> None:
    """And takes that back."""
    made = await created(ingest)
    path = f"{PATH}/{made['id']}"
    await ingest.context.documents.endpoints.disable(made["id"], "gone")

    _, shown = await ingest.call("GET", path)
    assert (shown["enabled"], shown["disabled"]["reason"]) == (False, "gone")
    _, on = await ingest.call("PATCH", path, json={"enabled": True})
    assert on["disabled"] is None


async def test_a_removed_endpoint_is_gone(ingest: Ingest) -> None:
    """204 without a body, then 404."""
    made = await created(ingest)

    async with ingest.client.delete(f"{ingest.url}{PATH}/{made['id']}") as answer:
        assert (answer.status, await answer.read()) == (204, b"")
    assert (await ingest.call("DELETE", f"{PATH}/{made['id']}"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate"), ("POST", "/test")],
)
async def test_an_endpoint_that_is_not_there_is_a_404_and_a_malformed_id_a_422(
    ingest: Ingest, method: str, path: str
) -> None:
    """For every operation on one."""
    options = {"json": {"enabled": True}} if method == "PATCH" else {}
    status, body = await ingest.call(method, UNKNOWN + path, **options)
    assert (status, body["code"]) == (404, "unknown_webhook")
    for malformed in ("17", "ep_17", "ep_" + "A" * 32, "%00", "ep_" + "0" * 32 + "%0A"):
        status, body = await ingest.call(method, f"{PATH}/{malformed}{path}", **options)
        assert (status, body["code"]) == (422, "invalid_parameters")
        assert body["detail"].startswith("endpoint_id: ")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "cursor=17", "cursor=", "page=2", "limit=1&limit=1"]
)
async def test_a_wrong_page_is_a_422(bare: Ingest, query: str) -> None:
    """Unknown parameters and repeated ones too."""
    status, body = await bare.call("GET", f"{PATH}?{query}")

    assert (status, body["code"]) == (422, "invalid_parameters")


async def test_there_are_a_thousand_endpoints_at_most(ingest: Ingest) -> None:
    """One more is a conflict that says so."""
    full = [{"_id": f"ep_{n}", "place": n, "enabled": False, "events": []} for n in range(MOST_ENDPOINTS)]
    await ingest.context.documents.mongo.collection("endpoints").insert_many(full)

    status, body = await ingest.call("POST", PATH, json={"url": URL})

    assert (status, body["code"]) == (409, "too_many_webhooks")
    assert "1,000" in body["detail"]


async def test_without_a_database_it_is_a_503(bare: Ingest) -> None:
    """As everywhere."""
    for method, path, options in (
        ("GET", PATH, {}),
        ("POST", PATH, {"json": {"url": URL}}),
        ("GET", UNKNOWN, {}),
        ("PATCH", UNKNOWN, {"json": {}}),
        ("DELETE", UNKNOWN, {}),
        ("POST", f"{UNKNOWN}/rotate", {}),
        ("POST", f"{UNKNOWN}/test", {}),
    ):
        status, body = await bare.call(method, path, **options)
        assert (status, body["code"]) == (503, "database_unavailable")


# --- what is refused -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1/hook", "127.0.0.1 is loopback"),
        ("http://localhost:8000/", "localhost is this machine"),
        ("http://2130706433/", "DARKROOM_EGRESS_ALLOW"),
        ("http://[::ffff:10.0.0.1]/", "private"),
        ("https://user:pass@shop.example/", "user name or password"),
        ("ftp://shop.example/", "only http and https"),
        ("shop.example", "starts with http://"),
        ("", "starts with http://"),
        ("http://", "names no host"),
        ("http://shop.example/a b", "character"),
        ("https://shop.example/" + "a" * 8000, "at most 8000 characters"),
        (None, "valid string"),
        (17, "valid string"),
    ],
)
async def test_a_url_that_may_not_be_called_is_refused_as_at_an_upload(bare: Ingest, url: Any, words: str) -> None:
    """By the same policy, at creation and at a change, naming the field, before anything is stored."""
    for method, path in (("POST", PATH), ("PATCH", UNKNOWN)):
        code, detail = await refused(bare, {"url": url}, method=method, path=path)
        assert code in {"invalid_webhook_url", "invalid_parameters"}
        assert detail.startswith("url: ")
        assert words in detail


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"events": ["request.completed", "request.done"]}, "events: “request.done” is no event; there are request."),
        ({"events": ["image.failed", "image.failed"]}, "events: image.failed is named twice"),
        ({"events": "request.completed"}, "events: "),
        ({"events": [17]}, "events: "),
        ({"events": None}, "events: "),
        ({"description": "x" * 501}, "description: "),
        ({"description": None}, "description: "),
        ({"rate_limit": 0}, "rate_limit: "),
        ({"rate_limit": -1}, "rate_limit: "),
        ({"rate_limit": 1001}, "rate_limit: "),
        ({"rate_limit": "5"}, "rate_limit: "),
        ({"rate_limit": True}, "rate_limit: "),
        ({"enabled": "yes"}, "enabled: "),
        ({"enabled": 1}, "enabled: "),
        ({"enabled": None}, "enabled: "),
        ({"headers": {"webhook-id": "x"}}, "headers: webhook-id is sent by Darkroom itself"),
        ({"headers": {"Webhook-Signature": "x"}}, "headers: Webhook-Signature is sent by Darkroom itself"),
        ({"headers": {"TraceParent": "x"}}, "headers: TraceParent is sent by Darkroom itself"),
        ({"headers": {"Content-Type": "text/plain"}}, "headers: Content-Type is sent by Darkroom itself"),
        ({"headers": {"Host": "internal"}}, "headers: Host is of the connection"),
        ({"headers": {"content-length": "0"}}, "headers: content-length is of the connection"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "headers: Transfer-Encoding is of the connection"),
        ({"headers": {"Connection": "keep-alive"}}, "headers: Connection is of the connection"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "headers: x-a is named twice"),
        ({"headers": {"X A": "1"}}, "headers: “X A” is no header name"),
        ({"headers": {"X-A\n": "1"}}, "headers: “X-A\n” is no header name"),
        ({"headers": {"": "1"}}, "headers: “” is no header name"),
        ({"headers": {"X-A": "1\r\nX-B: 2"}}, "headers: X-A needs a value"),
        ({"headers": {"X-A": "1\n"}}, "headers: X-A needs a value"),
        ({"headers": {"X-A": ""}}, "headers: X-A needs a value"),
        ({"headers": {"X-A": "ü"}}, "headers: X-A needs a value"),
        ({"headers": {"X-A": "1" * 1001}}, "headers: X-A needs a value"),
        ({"headers": {"X-A": None}}, "headers: "),
        ({"headers": {f"X-{n}": "1" for n in range(21)}}, "headers: "),
        ({"headers": ["X-A"]}, "headers: "),
        ({"secret": "whsec_mine"}, "secret: "),
    ],
)
async def test_a_wrong_field_is_a_422_that_names_it(bare: Ingest, said: dict[str, Any], words: str) -> None:
    """At creation and at a change alike, before anything is stored."""
    for method, path, body in (("POST", PATH, {"url": URL, **said}), ("PATCH", UNKNOWN, said)):
        code, detail = await refused(bare, body, method=method, path=path)
        assert code == "invalid_parameters"
        assert detail.startswith(words)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "application/json", 422, "invalid_json"),
        (b"{", "application/json", 422, "invalid_json"),
        (b"[]", "application/json", 422, "invalid_parameters"),
        (b"null", "application/json", 422, "invalid_parameters"),
        (b"{}", "application/json", 422, "invalid_parameters"),
        (b'{"url": "https://h.example/", "rate_limit": NaN}', "application/json", 422, "invalid_json"),
        (b'{"url": "https://h.example/", "rate_limit": 1e999}', "application/json", 422, "invalid_parameters"),
        (b'{"url": "https://h.example/", "description": "\\ud800"}', "application/json", 422, "invalid_parameters"),
        (b'{"url": "https://h.example/"}', "text/plain", 415, "unsupported_media_type"),
        (b'{"url": "' + b"a" * 2**20 + b'"}', "application/json", 413, "body_too_large"),
    ],
)
async def test_a_body_that_is_no_endpoint_is_a_problem(
    bare: Ingest, body: bytes, content_type: str, status: int, code: str
) -> None:
    """Broken, of another shape, of another type, too large, or text that is no Unicode."""
    answered, problem = await bare.call("POST", PATH, data=BytesIO(body), headers={"Content-Type": content_type})

    assert (answered, problem["code"]) == (status, code)


VALID = st.fixed_dictionaries(
    {"url": st.just(URL)},
    optional={
        "events": st.lists(st.sampled_from(EVENTS), unique=True),
        "description": st.text(st.characters(exclude_categories=["Cs"]), max_size=500),
        "headers": st.dictionaries(
            st.from_regex(r"\AX-[A-Za-z0-9_-]{1,20}\Z"),
            st.from_regex(r"\A[!-~]([ -~]{0,50}[!-~])?\Z"),
            max_size=20,
        ).filter(lambda headers: len({name.lower() for name in headers}) == len(headers)),
        "rate_limit": st.none() | st.floats(0.01, 1000) | st.integers(1, 1000),
        "enabled": st.booleans(),
    },
)


@given(said=VALID)
def test_whatever_the_description_of_the_api_allows_is_accepted(said: dict[str, Any]) -> None:
    """Where the URL is one that may be called, which no schema can say."""
    assert NewWebhook.model_validate_json(json.dumps(said)).model_dump(exclude_unset=True) == said


# --- secrets and tests -----------------------------------------------------------------------------------------------
async def test_a_rotation_shows_a_new_secret_beside_the_one_before(ingest: Ingest) -> None:
    """Both sign for the overlap that the settings say, a day by default."""
    made = await created(ingest)

    status, rotated = await ingest.call("POST", f"{PATH}/{made['id']}/rotate")

    assert status == 200
    assert rotated["secret"] != made["secret"]
    new, old = rotated["secrets"]
    assert (new["prefix"], new["expires_at"]) == (rotated["secret"][:10], None)
    assert old["prefix"] == made["secret"][:10]
    endpoint = await ingest.context.documents.endpoints.get(made["id"])
    assert endpoint is not None
    assert endpoint.keys_at(endpoint.updated_at) == [rotated["secret"], made["secret"]]
    expires_at = endpoint.secrets[1].expires_at
    assert expires_at is not None
    assert (expires_at - endpoint.updated_at).total_seconds() == 86_400


async def test_the_overlap_is_a_setting(documents: Documents, tmp_path: Path) -> None:
    """With none, the old secret signs nothing more."""
    async with ingesting(documents, tmp_path, webhook_overlap_seconds=0) as ingest:
        made = await created(ingest)
        _, rotated = await ingest.call("POST", f"{PATH}/{made['id']}/rotate")

    endpoint = await documents.endpoints.get(made["id"])
    assert endpoint is not None
    assert endpoint.keys_at(endpoint.updated_at) == [rotated["secret"]]


async def test_a_leaked_secret_is_replaced_at_once(ingest: Ingest) -> None:
    """The call says so, whatever the setting is, and is not refused where too many sign already."""
    made = await created(ingest)
    for _ in range(MOST_SECRETS - 1):
        await ingest.call("POST", f"{PATH}/{made['id']}/rotate")

    status, rotated = await ingest.call("POST", f"{PATH}/{made['id']}/rotate", json={"overlap_seconds": 0})

    assert status == 200
    [only] = rotated["secrets"]
    assert (only["prefix"], only["expires_at"]) == (rotated["secret"][:10], None)


async def test_an_overlap_can_be_chosen(ingest: Ingest) -> None:
    """For one rotation; null is the setting's."""
    made = await created(ingest)
    _, hour = await ingest.call("POST", f"{PATH}/{made['id']}/rotate", json={"overlap_seconds": 3600})
    _, day = await ingest.call("POST", f"{PATH}/{made['id']}/rotate", json={"overlap_seconds": None})

    def overlaps(shown: Any) -> list[float]:
        now = datetime.fromisoformat(shown["updated_at"])
        return [
            round((datetime.fromisoformat(one["expires_at"]) - now).total_seconds()) for one in shown["secrets"][1:]
        ]

    assert overlaps(hour) == [3600]
    assert overlaps(day)[0] == 86_400
    assert overlaps(day)[1] <= 3600


@pytest.mark.parametrize(
    "body", [{"overlap_seconds": -1}, {"overlap_seconds": "0"}, {"overlap": 0}, {"overlap_seconds": 3e6}]
)
async def test_a_wrong_overlap_is_a_422_that_names_it(bare: Ingest, body: Any) -> None:
    """And nothing is replaced."""
    code, detail = await refused(bare, body, path=f"{UNKNOWN}/rotate")

    assert code == "invalid_parameters"
    assert detail.startswith("overlap")


async def test_rotating_over_and_over_is_a_conflict(ingest: Ingest) -> None:
    """The secrets that sign stay as they are."""
    made = await created(ingest)
    for _ in range(MOST_SECRETS - 1):
        assert (await ingest.call("POST", f"{PATH}/{made['id']}/rotate"))[0] == 200

    status, body = await ingest.call("POST", f"{PATH}/{made['id']}/rotate")

    assert (status, body["code"]) == (409, "too_many_secrets")
    assert len((await ingest.call("GET", f"{PATH}/{made['id']}"))[1]["secrets"]) == MOST_SECRETS


async def test_a_disabled_endpoint_gets_no_test(ingest: Ingest) -> None:
    """A conflict that says why; nothing is queued."""
    made = await created(ingest, enabled=False)

    status, body = await ingest.call("POST", f"{PATH}/{made['id']}/test")

    assert (status, body["code"]) == (409, "webhook_disabled")
    assert "by_owner" in body["detail"]
    assert await ingest.context.documents.mongo.collection("deliveries").count_documents({}) == 0


async def test_a_test_event_arrives_signed_with_the_secret_that_was_shown(
    documents: Documents, mongo_uri: str, tmp_path: Path
) -> None:
    """At that endpoint alone, whatever events it wants, with its headers; each test has an id of its own.

    A listening notifier finds them though its sweep is hours away.
    """
    async with receiving() as receiver, ingesting(documents, tmp_path, egress_allow="127.0.0.0/8") as ingest:
        made = await created(ingest, f"{receiver.url}/mine", events=["image.failed"], headers={"Authorization": "hush"})
        await created(ingest, f"{receiver.url}/other")
        async with notifying(notifier_settings(documents, mongo_uri, sweep_seconds=3600)) as notifier:
            await notifier.ready.wait()
            sent = [await ingest.call("POST", f"{PATH}/{made['id']}/test") for _ in range(2)]
            arrived = await receiver.first(2)

        assert [status for status, _ in sent] == [202, 202]
        assert {one.webhook_id for one in arrived} == {body["delivery_id"] for _, body in sent}
        assert {one.path for one in receiver.received} == {"/mine"}
        for one in arrived:
            payload = one.verified(made["secret"])
            assert (payload["type"], payload["data"]) == ("webhook.test", {"endpoint_id": made["id"]})
            assert one.headers["Authorization"] == "hush"


async def test_both_secrets_of_a_rotation_verify_what_is_sent(
    documents: Documents, mongo_uri: str, tmp_path: Path
) -> None:
    """By the independent library; the new one's signature comes first."""
    async with receiving() as receiver, ingesting(documents, tmp_path, egress_allow="127.0.0.0/8") as ingest:
        made = await created(ingest, receiver.url)
        _, rotated = await ingest.call("POST", f"{PATH}/{made['id']}/rotate")
        await ingest.call("POST", f"{PATH}/{made['id']}/test")
        async with notifying(notifier_settings(documents, mongo_uri)):
            [arrived] = await receiver.first(1)

    new, old = arrived.headers["webhook-signature"].split(" ")
    assert arrived.verified(rotated["secret"]) == arrived.verified(made["secret"])
    for secret, signature in ((rotated["secret"], new), (made["secret"], old)):
        alone = Webhook(secret).verify(arrived.body, {**arrived.headers, "webhook-signature": signature})
        assert alone["type"] == "webhook.test"


async def test_the_owner_sees_why_nothing_is_sent_any_more(
    documents: Documents, mongo_uri: str, tmp_path: Path
) -> None:
    """After a 410, since when and why; enabling it takes that back."""
    async with receiving(says(410)) as receiver, ingesting(documents, tmp_path, egress_allow="127.0.0.0/8") as ingest:
        made = await created(ingest, receiver.url)
        await ingest.call("POST", f"{PATH}/{made['id']}/test")

        async def disabled() -> Any:
            return (await ingest.call("GET", f"{PATH}/{made['id']}"))[1]["disabled"]

        async with notifying(notifier_settings(documents, mongo_uri)):
            why = await until(disabled, "it is disabled")
        _, enabled = await ingest.call("PATCH", f"{PATH}/{made['id']}", json={"enabled": True})

    assert why["reason"] == "gone"
    assert datetime.fromisoformat(why["at"]) >= datetime.fromisoformat(made["created_at"])
    assert (enabled["enabled"], enabled["disabled"]) == (True, None)


async def test_what_is_queued_for_a_removed_endpoint_is_not_sent(
    documents: Documents, mongo_uri: str, tmp_path: Path
) -> None:
    """It fails, and says that its endpoint was deleted; another's goes on."""
    async with receiving() as receiver, ingesting(documents, tmp_path, egress_allow="127.0.0.0/8") as ingest:
        gone, stays = await created(ingest, f"{receiver.url}/gone"), await created(ingest, f"{receiver.url}/stays")
        _, lost = await ingest.call("POST", f"{PATH}/{gone['id']}/test")
        await ingest.call("POST", f"{PATH}/{stays['id']}/test")
        await ingest.call("DELETE", f"{PATH}/{gone['id']}")

        async def failed() -> Any:
            return await documents.mongo.collection("deliveries").find_one(
                {"_id": lost["delivery_id"], "state": "failed"}
            )

        async with notifying(notifier_settings(documents, mongo_uri)):
            await receiver.first(1)
            assert (await until(failed, "its delivery has failed"))["reason"] == "endpoint_deleted"

    assert [one.path for one in receiver.received] == ["/stays"]
