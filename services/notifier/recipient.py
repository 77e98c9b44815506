"""Who gets a delivery: a standing endpoint as it is now, or the URL that came with an upload."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from libs.documents import Bar


@dataclass(frozen=True, slots=True)
class Recipient:
    """Where a delivery goes, and how.

    `secrets` sign it, the newest first; `headers` are sent beside Darkroom's own. `endpoint_id` is None for the URL of
    an upload. `rate_limit` is in deliveries per second (None: no limit), `paused_seconds` how long the receiver asked
    to be left alone. `barred` says why it gets nothing (None: it does).
    """

    url: str
    secrets: Sequence[str] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    endpoint_id: str | None = None
    rate_limit: float | None = None
    paused_seconds: float = 0.0
    barred: Bar | None = None
