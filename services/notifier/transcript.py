"""What of a receiver's answer is kept for the endpoint's owner to read."""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlsplit

from libs.documents import Answer
from libs.egress import Response
from services.notifier.recipient import Recipient

MOST_BYTES = 16 * 1024
"""Of headers and body together."""

REMOVED = "[removed]"
_MOST_HEADERS = 50
_MOST_HEADER_BYTES = 8 * 1024
# Names of headers whose values are credentials, such as Set-Cookie, Authorization, X-Api-Key or X-Amz-Security-Token.
_CREDENTIALS = re.compile(r"cookie|auth|token|secret|session|passw|credential|signature|api-?key", re.IGNORECASE)
# Of headers that say where to go next; the query of such a URL often has a token in it.
_PLACES = frozenset({"location", "content-location", "refresh"})
_QUERY = re.compile(r"[?#].+", re.DOTALL)
# As JSON may write it too, with a backslash before each slash.
_USER_INFO = re.compile(r"(:(?:\\?/){2})[^/\\?#@\s\"'<>]*@")
_SHORTEST_SECRET = 6  # shorter ones are found in too much


class Transcript:
    """Takes down what a recipient answers, without what only Darkroom, the recipient and its owner are to know.

    That is its secrets, what its own headers and the query of its URL say, headers that are credentials by their names,
    user info in URLs, and the queries of redirects.
    """

    def __init__(self, recipient: Recipient) -> None:
        self._secrets = _written(tuple(recipient.secrets), tuple(recipient.headers.values()), recipient.url)

    def of(self, response: Response) -> Answer:
        """The head of the answer: its headers, and of its body what fits into 16 KiB beside them, as text."""
        headers, left = list[tuple[str, str]](), _MOST_HEADER_BYTES
        for name, value in self._headers(response.headers):
            left -= len(name.encode()) + len(value.encode())
            if left < 0 or len(headers) == _MOST_HEADERS:
                break
            headers.append((name, value))
        taken = sum(len(name.encode()) + len(value.encode()) for name, value in headers)
        return Answer(headers, self._body(response.body, MOST_BYTES - taken))

    def of_error(self, detail: str) -> str:
        """What went wrong, which may have the first words of what was no answer in it."""
        return self._without_a_beginning(self._without_secrets(detail))

    def _headers(self, headers: Mapping[str, str]) -> Iterable[tuple[str, str]]:
        for name, value in headers.items():
            kept = REMOVED if _CREDENTIALS.search(name) else self._without_secrets(value)
            if name.lower() in _PLACES:
                kept = _QUERY.sub(f"?{REMOVED}", kept)
            yield _storable(name), _storable(kept)

    def _body(self, body: bytes, most: int) -> str:
        if not body:
            return ""
        text = self._without_secrets(body.decode(errors="replace"))
        if len(body) >= MOST_BYTES:
            text = self._without_a_beginning(text)
        return text.encode()[:most].decode(errors="ignore")

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, REMOVED)
        return _USER_INFO.sub(rf"\1{REMOVED}@", text) if "@" in text else text

    def _without_a_beginning(self, text: str) -> str:
        """Where a text was cut, the beginning of a secret may stand at its end."""
        for secret in self._secrets:
            shown = next((n for n in range(len(secret) - 1, 3, -1) if text.endswith(secret[:n])), 0)
            text = text[: len(text) - shown]
        return text


@lru_cache(maxsize=1024)
def _written(secrets: Sequence[str], headers: Sequence[str], url: str) -> Sequence[str]:
    """What nobody else is to know, the longest first, as one may be a part of another."""
    written = {form for secret in _confidential(secrets, headers, url) for form in _forms(secret)}
    return sorted(written, key=len, reverse=True)


def _confidential(secrets: Sequence[str], headers: Sequence[str], url: str) -> Iterator[str]:
    yield from secrets
    for value in headers:
        yield value
        scheme, _, credentials = value.partition(" ")
        yield credentials.strip()
        if scheme.lower() == "basic":
            yield from _user_and_password(credentials)
    if "?" in url:
        yield from (value for _, value in parse_qsl(urlsplit(url).query))


def _user_and_password(credentials: str) -> Iterator[str]:
    try:
        decoded = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        return  # only the receiver knows what it is
    yield decoded
    yield decoded.partition(":")[2]


def _forms(secret: str) -> Iterable[str]:
    """A secret as texts write it: as it is, in JSON and in a URL."""
    return {secret, secret.replace("/", r"\/"), quote(secret, safe="")} if len(secret) >= _SHORTEST_SECRET else ()


def _storable(text: str) -> str:
    """Bytes that are not UTF-8 come from aiohttp as lone surrogates, which MongoDB does not take."""
    return text.encode(errors="replace").decode()
