"""What leased documents call what a lease is about, and the states that are not final."""

from dataclasses import dataclass

PENDING, DELAYED, PROCESSING = "pending", "delayed", "processing"

IN_ORDER = "pending_in_order"
"""The name of the index of what is pending by its order."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What the leased documents call these things.

    `order`: the number they are claimed by; `due`: the date a delayed one is due; `attempts`: the tries charged.
    """

    order: str
    due: str
    attempts: str = "attempts"
