"""Leases: work in a collection is claimed for a time, and only its holder can finish it."""

from libs.leases.claim import Claim
from libs.leases.fields import DELAYED, IN_ORDER, Fields
from libs.leases.holdings import Held, Holdings, Settle
from libs.leases.leases import Leases
from libs.leases.settled import Finish, Settled, Update
from libs.leases.shares import Shares
from libs.leases.spread import Spread

__all__ = [
    "DELAYED",
    "IN_ORDER",
    "Claim",
    "Fields",
    "Finish",
    "Held",
    "Holdings",
    "Leases",
    "Settle",
    "Settled",
    "Shares",
    "Spread",
    "Update",
]
