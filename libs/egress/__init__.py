"""The one way out: every outbound request of the services, with the address actually dialled checked."""

from .answers import Download, Response
from .errors import EgressError
from .policy import EgressPolicy
from .retry_after import retry_after_seconds
from .session import GuardedSession
from .urls import CanonicalUrl

__all__ = [
    "CanonicalUrl",
    "Download",
    "EgressError",
    "EgressPolicy",
    "GuardedSession",
    "Response",
    "retry_after_seconds",
]
