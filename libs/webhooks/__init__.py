"""Standard Webhooks 1.0: secrets, signatures, headers and the retry schedule. Pure; nothing here does I/O.

Specification: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from libs.webhooks.schedule import JITTER, jittered, next_attempt_seconds
from libs.webhooks.secret import new_secret, parse_secret
from libs.webhooks.signature import VerificationError, sign, signed_headers, verify

__all__ = [
    "JITTER",
    "VerificationError",
    "jittered",
    "new_secret",
    "next_attempt_seconds",
    "parse_secret",
    "sign",
    "signed_headers",
    "verify",
]
