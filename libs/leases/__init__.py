"""Leases: work in a collection is claimed for a time, and only its holder can finish it."""

from libs.leases.leases import Claim, Fields, Leases

__all__ = ["Claim", "Fields", "Leases"]
