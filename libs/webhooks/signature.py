"""Signs and verifies a webhook: HMAC-SHA256 over `id.timestamp.body`, version `v1` of Standard Webhooks."""

import binascii
import hmac
import re
from collections.abc import Mapping
from functools import lru_cache

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_VERSION = "v1"
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


class VerificationError(Exception):
    """The webhook is not to be trusted.

    `code` is `missing_header`, `bad_timestamp`, `too_old`, `too_new` or `wrong_signature`.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def sign(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The signature `v1,…` of one attempt; `timestamp` is the attempt's, in whole seconds since 1970.

    Raises:
        ValueError: the id has a full stop in it, with which parts of the signed text could be shifted into each other.
    """
    if "." in message_id:
        raise ValueError(f"a webhook-id has no full stop in it: {message_id!r}")
    mac = _keyed(secret).copy()
    mac.update(f"{message_id}.{timestamp}.".encode() + body)
    return f"{_VERSION},{binascii.b2a_base64(mac.digest(), newline=False).decode()}"


@lru_cache(maxsize=4096)
def _keyed(secret: bytes) -> hmac.HMAC:
    """To be copied: taking a key in is half of the work on a short text. Keys of old secrets stay for as long."""
    return hmac.new(secret, digestmod="sha256")


def signed_headers(secret: bytes, message_id: str, timestamp: int, body: bytes, *older: bytes) -> dict[str, str]:
    """The three headers of one attempt: id (the same at every attempt), timestamp and signature.

    While a secret is replaced, those before it sign too: `older`, the newest of them first, behind its signature.
    """
    signatures = [sign(key, message_id, timestamp, body) for key in (secret, *older)]
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: " ".join(signatures)}


def verify(
    secret: bytes, headers: Mapping[str, str], body: bytes, *, now: float, tolerance_seconds: float = 300
) -> None:
    """Returns when the webhook was signed with `secret`, not longer ago and not further ahead than the tolerance.

    `body` is what was received, byte for byte; `now` is in seconds since 1970. Header names count in any case. One
    valid signature of version `v1` in the list is enough; those of other versions are passed over.

    Raises:
        VerificationError: anything else.
    """
    values = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp, signatures = (_required(values, name) for name in (ID, TIMESTAMP, SIGNATURE))
    seconds = _seconds(timestamp)
    if seconds < now - tolerance_seconds:
        raise VerificationError("too_old", f"signed more than {tolerance_seconds:g} seconds ago")
    if seconds > now + tolerance_seconds:
        raise VerificationError("too_new", f"signed more than {tolerance_seconds:g} seconds ahead")
    if "." in message_id:
        raise VerificationError("wrong_signature", f"{ID} has a full stop in it")
    expected = sign(secret, message_id, seconds, body).encode()
    # Every candidate is compared, and each in constant time, so that the answer's delay tells nothing.
    matches = [hmac.compare_digest(expected, candidate.encode()) for candidate in signatures.split(" ")]
    if not any(matches):
        raise VerificationError("wrong_signature", f"no signature in {SIGNATURE} is of this body with this secret")


def _required(values: Mapping[str, str], name: str) -> str:
    value = values.get(name)
    if not value:
        raise VerificationError("missing_header", f"{name} is missing")
    return value


def _seconds(timestamp: str) -> int:
    if not _SECONDS.fullmatch(timestamp):
        raise VerificationError("bad_timestamp", f"{TIMESTAMP} must be whole seconds since 1970")
    return int(timestamp)
