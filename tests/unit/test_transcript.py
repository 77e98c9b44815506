"""What is kept of a receiver's answer."""

import pytest
from multidict import CIMultiDict

from libs.egress import Response
from services.notifier.recipient import Recipient
from services.notifier.transcript import MOST_BYTES, REMOVED, Transcript

SECRET = "whsec_MfKQ9r8GKYqr/wjUPD8ILPZIo2LaLaSw"  # noqa: S105 (the specification's example, with a slash)


URL = "http://h/hook"


def transcript(*secrets: str, url: str = URL, **headers: str) -> Transcript:
    """Of a recipient with these secrets and headers, in whose names underscores stand for hyphens."""
    return Transcript(Recipient(url, secrets, {name.replace("_", "-"): value for name, value in headers.items()}))


def answered(body: bytes = b"", *headers: tuple[str, str]) -> Response:
    """An answer with these."""
    return Response(200, CIMultiDict(headers), body, "192.0.2.1")


def test_headers_and_body_are_kept_in_their_order() -> None:
    """One that comes twice stands there twice."""
    answer = transcript().of(answered("grüße".encode(), ("B", "2"), ("A", "1"), ("B", "3")))
    assert answer.headers == [("B", "2"), ("A", "1"), ("B", "3")]
    assert answer.body == "grüße"


@pytest.mark.parametrize(
    "name", ["Set-Cookie", "authorization", "Proxy-Authenticate", "X-API-Key", "x-amz-security-token", "X-Session-Id"]
)
def test_credentials_are_removed_by_the_name_of_their_header(name: str) -> None:
    """That there was one is told."""
    assert transcript().of(answered(b"", (name, "hush"))).headers == [(name, REMOVED)]


def test_secrets_are_removed_wherever_they_stand() -> None:
    """In a header, in the body, and as JSON may write them."""
    escaped = SECRET.replace("/", "\\/")
    answer = transcript(SECRET, Authorization="Bearer hush").of(
        answered(f'{{"a": "{SECRET}", "b": "{escaped}", "c": "Bearer hush"}}'.encode(), ("X-Echo", f"is {SECRET}"))
    )
    assert answer.headers == [("X-Echo", f"is {REMOVED}")]
    assert answer.body == f'{{"a": "{REMOVED}", "b": "{REMOVED}", "c": "{REMOVED}"}}'


@pytest.mark.parametrize(
    ("header", "echo"),
    [
        ("Bearer hush-hush", "no such token: hush-hush"),
        ("Basic dXNlcjpodXNoLWh1c2g=", "user:hush-hush is not known"),
        ("Basic dXNlcjpodXNoLWh1c2g=", "wrong password hush-hush"),
        ("Basic hush-hush", "hush-hush is not base64"),
        ("hush/hush", "in a URL: hush%2Fhush"),
    ],
)
def test_what_an_owners_header_says_is_removed_in_parts_too(header: str, echo: str) -> None:
    """A receiver may answer with the token alone, or with the password that it was sent in base64."""
    assert "hush" not in transcript(Authorization=header).of(answered(echo.encode())).body


@pytest.mark.parametrize(
    "echo", ["key s3cr3t/+ is wrong", "no page /hook?key=s3cr3t%2F%2B", "GET \\/hook?key=s3cr3t\\/+"]
)
def test_what_the_query_of_its_own_url_says_is_removed(echo: str) -> None:
    """It may be what the receiver knows Darkroom by; the log does not show it either."""
    kept = transcript(url="https://h/hook?key=s3cr3t%2F%2B&a=1").of(answered(echo.encode(), ("X-Said", echo)))
    assert "s3cr3t" not in f"{kept.body}{kept.headers}"
    assert REMOVED in kept.body


@pytest.mark.parametrize("name", ["Location", "content-location", "Refresh"])
@pytest.mark.parametrize("rest", ["?token=hush&b=1", "#access_token=hush", "?hush"])
def test_where_a_receiver_sends_one_is_kept_without_a_query(name: str, rest: str) -> None:
    """Signed URLs are credentials; that there was more is told."""
    assert transcript().of(answered(b"", (name, f"https://h/a{rest}"))).headers == [(name, f"https://h/a?{REMOVED}")]


@pytest.mark.parametrize("scheme", ["https://", "ftp://", "https:\\/\\/"])
@pytest.mark.parametrize("user", ["user:hush@", "hush@", ":hush@"])
def test_user_info_is_removed_from_urls(scheme: str, user: str) -> None:
    """In headers and in the body, as JSON may write them too; addresses of mail stay."""
    said = f"go to {scheme}{user}h/a?x=me@example.org"
    kept = transcript().of(answered(said.encode(), ("X-Go", said)))
    assert kept.body == kept.headers[0][1] == f"go to {scheme}{REMOVED}@h/a?x=me@example.org"


def test_the_detail_of_an_error_has_no_secret_in_it() -> None:
    """Nor the beginning of one, where the words of the receiver were cut."""
    detail = f"h sent no valid HTTP answer: {SECRET} {SECRET[:20]}"
    assert transcript(SECRET).of_error(detail) == f"h sent no valid HTTP answer: {REMOVED} "


def test_the_beginning_of_a_secret_does_not_stand_where_the_body_was_cut() -> None:
    """Sixteen kibibytes were read, and the secret went on behind them."""
    cut = b"x" * (MOST_BYTES - 20) + SECRET.encode()[:20]
    assert transcript(SECRET).of(answered(cut)).body == "x" * (MOST_BYTES - 20)


@pytest.mark.parametrize("body", [b"x" * MOST_BYTES, b"\xff" * MOST_BYTES, "é".encode() * (MOST_BYTES // 2)])
def test_headers_and_body_have_sixteen_kibibytes_together(body: bytes) -> None:
    """As they are stored: what is not UTF-8 takes more than it did."""
    answer = transcript().of(answered(body, *[(f"X-{number}", "y" * 1000) for number in range(100)]))
    size = sum(len(name) + len(value) for name, value in answer.headers) + len(answer.body.encode())
    assert MOST_BYTES - 4 < size <= MOST_BYTES
    assert 0 < len(answer.headers) < 10


def test_bytes_that_are_no_text_can_be_stored() -> None:
    """Headers with raw bytes come as lone surrogates."""
    assert transcript().of(answered(b"", ("X", "a\udcff"))).headers == [("X", "a?")]
