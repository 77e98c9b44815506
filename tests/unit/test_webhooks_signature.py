import base64
import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from libs.webhooks import VerificationError, new_secret, parse_secret, sign, signed_headers, verify

SECRET_TEXT = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 (the specification's example)
SECRET = parse_secret(SECRET_TEXT)
NOW = 1_700_000_000
BODY = b'{"status":"completed"}'


def headers(**changes: str) -> dict[str, str]:
    """The headers of BODY, signed at NOW, with changes; underscores stand for hyphens."""
    signed = signed_headers(SECRET, "msg_1", NOW, BODY)
    return signed | {name.replace("_", "-"): value for name, value in changes.items()}


def refusal(given_headers: dict[str, str], body: bytes = BODY, *, now: float = NOW) -> str:
    """The code with which a webhook is refused."""
    with pytest.raises(VerificationError) as refused:
        verify(SECRET, given_headers, body, now=now)
    return refused.value.code


def test_a_known_message_has_its_known_signature() -> None:
    """The example of the reference libraries, byte for byte."""
    signature = sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=24, max_size=64), st.text(st.characters(codec="utf-8"), max_size=200))
def test_the_independent_library_accepts_what_is_signed_here(key: bytes, text: str) -> None:
    """Whatever the key and the text, `standardwebhooks` verifies the headers."""
    body = json.dumps({"text": text}, ensure_ascii=False).encode()
    signed = signed_headers(key, "msg_1", int(time.time()), body)
    assert Webhook(key).verify(body, signed) == {"text": text}


@given(st.binary(min_size=24, max_size=64), st.text(st.characters(codec="utf-8"), max_size=200))
def test_what_the_independent_library_signs_is_accepted_here(key: bytes, text: str) -> None:
    """Whatever the key and the text, signatures of `standardwebhooks` verify."""
    signature = Webhook(key).sign("msg_1", datetime.fromtimestamp(NOW, UTC), text)
    verify(key, headers(webhook_signature=signature), text.encode(), now=NOW)


def test_the_independent_library_refuses_another_body() -> None:
    """The judge of the other tests does judge."""
    signed = signed_headers(SECRET, "msg_1", int(time.time()), BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET_TEXT).verify(BODY + b" ", signed)


def test_header_names_count_in_any_case() -> None:
    """Servers hand on headers as Webhook-Id or WEBHOOK-ID."""
    verify(SECRET, {name.upper(): value for name, value in headers().items()}, BODY, now=NOW)


def test_one_valid_signature_of_several_is_enough() -> None:
    """While a secret is changed, two signatures are sent; other versions stand among them."""
    listed = f"v1a,abc v1,{'A' * 43}= {headers()['webhook-signature']}"
    verify(SECRET, headers(webhook_signature=listed), BODY, now=NOW)


@pytest.mark.parametrize(
    "signature",
    [
        "v1," + "A" * 43 + "=",
        "v2," + sign(SECRET, "msg_1", NOW, BODY).removeprefix("v1,"),
        sign(SECRET, "msg_1", NOW, BODY).removeprefix("v1,"),
        sign(bytes(32), "msg_1", NOW, BODY),
        sign(SECRET, "msg_2", NOW, BODY),
        sign(SECRET, "msg_1", NOW + 1, BODY),
        "v1,",
        "¼",
    ],
)
def test_a_signature_of_something_else_is_refused(signature: str) -> None:
    """Another version, key, id or time, or no signature at all."""
    assert refusal(headers(webhook_signature=signature)) == "wrong_signature"


def test_a_changed_body_is_refused() -> None:
    """One more space is enough."""
    assert refusal(headers(), BODY + b" ") == "wrong_signature"


def test_an_id_cannot_borrow_from_the_timestamp() -> None:
    """With a full stop in the id, two different messages would have the same signed text."""
    with pytest.raises(ValueError, match="full stop"):
        sign(SECRET, "msg.1", NOW, BODY)
    assert refusal(headers(webhook_id="msg.1")) == "wrong_signature"


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_every_header_is_required(name: str) -> None:
    """A header that is empty is as bad as none."""
    assert refusal(headers() | {name: ""}) == "missing_header"
    assert refusal({key: value for key, value in headers().items() if key != name}) == "missing_header"


@pytest.mark.parametrize("timestamp", ["soon", "-1", "1.7e9", "1700000000.5", " 1700000000", "٣", "9" * 5000])
def test_a_timestamp_is_whole_seconds(timestamp: str) -> None:
    """Anything else is refused before it is compared."""
    assert refusal(headers(webhook_timestamp=timestamp)) == "bad_timestamp"


@pytest.mark.parametrize(("age", "code"), [(301, "too_old"), (-301, "too_new")])
def test_a_signature_is_good_for_five_minutes(age: int, code: str) -> None:
    """Not older and not further ahead than the tolerance, which is included."""
    assert refusal(headers(), now=NOW + age) == code
    verify(SECRET, headers(), BODY, now=NOW + (300 if age > 0 else -300))


def test_a_new_secret_is_accepted_and_different_each_time() -> None:
    """What is made here can be parsed here, and is 32 random bytes."""
    first, second = new_secret(), new_secret()
    assert first != second
    assert len(parse_secret(first)) == 32
    assert Webhook(first).verify(BODY, signed_headers(parse_secret(first), "msg_1", int(time.time()), BODY))


def secret_of(size: int) -> str:
    """A secret of so many bytes."""
    return "whsec_" + base64.b64encode(bytes(size)).decode()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "starts with whsec_"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "starts with whsec_"),
        ("whsec_", "24 to 64 bytes, not 0"),
        (secret_of(23), "24 to 64 bytes, not 23"),
        (secret_of(65), "24 to 64 bytes, not 65"),
        ("whsec_*fKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "must be base64"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwA", "must be base64"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", "must be base64"),
        ("whsec_ÄfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "must be base64"),
    ],
)
def test_a_bad_secret_is_refused_in_one_sentence(text: str, problem: str) -> None:
    """The sentence says what is wrong and does not give the secret away."""
    with pytest.raises(ValueError, match=problem) as refused:
        parse_secret(text)
    assert len(text) < 7 or text.removeprefix("whsec_") not in str(refused.value)


@pytest.mark.parametrize("size", [24, 64])
def test_the_shortest_and_the_longest_secret_are_accepted(size: int) -> None:
    """24 and 64 bytes."""
    assert parse_secret(secret_of(size)) == bytes(size)
