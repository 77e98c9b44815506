"""Documents encoded before they are sent, so that the driver has only to copy them while the server waits."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import bson
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument

Encoded: TypeAlias = RawBSONDocument

# The driver sends no command of more than 16 MiB and 16 KiB, and one document may have 16 MiB.
_MESSAGE_BYTES = 8 * 2**20


def encoded(documents: Sequence[dict[str, Any]]) -> list[Encoded]:
    """The documents as BSON; together, since to encode each by itself takes twice as long."""
    whole = bson.encode({"documents": documents})
    found: list[Encoded] = bson.decode(whole, DEFAULT_RAW_BSON_OPTIONS)["documents"]
    return found


def in_messages(documents: Sequence[Encoded]) -> list[list[Encoded]]:
    """The documents in their order, some for each message: of 8 MiB at most, or one that is larger by itself."""
    messages: list[list[Encoded]] = [[]]
    size = 0
    for document in documents:
        if size + len(document.raw) > _MESSAGE_BYTES and messages[-1]:
            messages.append([])
            size = 0
        messages[-1].append(document)
        size += len(document.raw)
    return messages
