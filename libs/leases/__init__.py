"""Leases: work in a collection is claimed for a time, and only its holder can finish it."""

from libs.leases.claim import Claim
from libs.leases.holdings import Held, Holdings, Settle
from libs.leases.leases import Fields, Leases
from libs.leases.shares import Shares
from libs.leases.spread import Spread

__all__ = ["Claim", "Fields", "Held", "Holdings", "Leases", "Settle", "Shares", "Spread"]
