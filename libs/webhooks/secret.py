"""Signing secrets as people handle them: `whsec_` and the base64 of the key."""

import base64
import binascii
import secrets
from functools import lru_cache

PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64
"""192 to 512 bits: "Signature scheme" in the specification."""

_NEW_BYTES = 32  # as many as SHA-256 gives; a longer key adds nothing


def new_secret() -> str:
    """A new random secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_NEW_BYTES)).decode()


@lru_cache(maxsize=4096)
def parse_secret(text: str) -> bytes:
    """The key that signs and verifies, from a secret such as `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw`.

    Raises:
        ValueError: one sentence that says what is wrong, without the secret in it.
    """
    if not text.startswith(PREFIX):
        raise ValueError(f"a signing secret starts with {PREFIX}")
    encoded = text.removeprefix(PREFIX)
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"what follows {PREFIX} in a signing secret must be base64, padded with =") from error
    if not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(f"a signing secret has {LEAST_BYTES} to {MOST_BYTES} bytes, not {len(key)}")
    return key
