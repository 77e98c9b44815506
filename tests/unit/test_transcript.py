"""What is kept of a receiver's answer."""

import pytest
from multidict import CIMultiDict

from libs.egress import Response
from services.notifier.transcript import MOST_BYTES, REMOVED, Transcript

SECRET = "whsec_MfKQ9r8GKYqr/wjUPD8ILPZIo2LaLaSw"  # noqa: S105 (the specification's example, with a slash)


def answered(body: bytes = b"", *headers: tuple[str, str]) -> Response:
    """An answer with these."""
    return Response(200, CIMultiDict(headers), body, "192.0.2.1")


def test_headers_and_body_are_kept_in_their_order() -> None:
    """One that comes twice stands there twice."""
    answer = Transcript([]).of(answered("grüße".encode(), ("B", "2"), ("A", "1"), ("B", "3")))
    assert answer.headers == [("B", "2"), ("A", "1"), ("B", "3")]
    assert answer.body == "grüße"


@pytest.mark.parametrize(
    "name", ["Set-Cookie", "authorization", "Proxy-Authenticate", "X-API-Key", "x-amz-security-token", "X-Session-Id"]
)
def test_credentials_are_removed_by_the_name_of_their_header(name: str) -> None:
    """That there was one is told."""
    assert Transcript([]).of(answered(b"", (name, "hush"))).headers == [(name, REMOVED)]


def test_secrets_are_removed_wherever_they_stand() -> None:
    """In a header, in the body, and as JSON may write them."""
    escaped = SECRET.replace("/", "\\/")
    answer = Transcript([SECRET, "Bearer hush"]).of(
        answered(f'{{"a": "{SECRET}", "b": "{escaped}", "c": "Bearer hush"}}'.encode(), ("X-Echo", f"is {SECRET}"))
    )
    assert answer.headers == [("X-Echo", f"is {REMOVED}")]
    assert answer.body == f'{{"a": "{REMOVED}", "b": "{REMOVED}", "c": "{REMOVED}"}}'


def test_the_beginning_of_a_secret_does_not_stand_where_the_body_was_cut() -> None:
    """Sixteen kibibytes were read, and the secret went on behind them."""
    cut = b"x" * (MOST_BYTES - 20) + SECRET.encode()[:20]
    assert Transcript([SECRET]).of(answered(cut)).body == "x" * (MOST_BYTES - 20)


@pytest.mark.parametrize("body", [b"x" * MOST_BYTES, b"\xff" * MOST_BYTES, "é".encode() * (MOST_BYTES // 2)])
def test_headers_and_body_have_sixteen_kibibytes_together(body: bytes) -> None:
    """As they are stored: what is not UTF-8 takes more than it did."""
    answer = Transcript([]).of(answered(body, *[(f"X-{number}", "y" * 1000) for number in range(100)]))
    size = sum(len(name) + len(value) for name, value in answer.headers) + len(answer.body.encode())
    assert MOST_BYTES - 4 < size <= MOST_BYTES
    assert 0 < len(answer.headers) < 10


def test_bytes_that_are_no_text_can_be_stored() -> None:
    """Headers with raw bytes come as lone surrogates."""
    assert Transcript([]).of(answered(b"", ("X", "a\udcff"))).headers == [("X", "a?")]
