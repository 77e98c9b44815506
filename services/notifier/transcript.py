"""What of a receiver's answer is kept for the endpoint's owner to read."""

import re
from collections.abc import Iterable, Mapping

from libs.documents import Answer
from libs.egress import Response

MOST_BYTES = 16 * 1024
"""Of headers and body together."""

REMOVED = "[removed]"
_MOST_HEADERS = 50
_MOST_HEADER_BYTES = 8 * 1024
# Names of headers whose values are credentials, such as Set-Cookie, Authorization, X-Api-Key or X-Amz-Security-Token.
_CREDENTIALS = re.compile(r"cookie|auth|token|secret|session|passw|credential|signature|api-?key", re.IGNORECASE)
_SHORTEST_SECRET = 6  # shorter ones are found in too much


class Transcript:
    """Takes down answers to attempts that carried `secrets`, none of which is in what it gives."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first, as one may be a part of another. JSON may have a backslash before each slash of base64.
        written = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        written |= {secret.replace("/", r"\/") for secret in written}
        self._secrets = sorted(written, key=len, reverse=True)

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

    def _headers(self, headers: Mapping[str, str]) -> Iterable[tuple[str, str]]:
        for name, value in headers.items():
            kept = REMOVED if _CREDENTIALS.search(name) else self._without_secrets(value)
            yield _storable(name), _storable(kept)

    def _body(self, body: bytes, most: int) -> str:
        text = self._without_secrets(body.decode(errors="replace"))
        # Where the body was cut, the beginning of a secret may stand at its end.
        for secret in self._secrets if len(body) >= MOST_BYTES else []:
            shown = next((n for n in range(len(secret) - 1, 3, -1) if text.endswith(secret[:n])), 0)
            text = text[: len(text) - shown]
        return text.encode()[:most].decode(errors="ignore")

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, REMOVED)
        return text


def _storable(text: str) -> str:
    """Bytes that are not UTF-8 come from aiohttp as lone surrogates, which MongoDB does not take."""
    return text.encode(errors="replace").decode()
