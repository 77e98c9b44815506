"""What log lines name a delivery by."""

from libs.documents import Delivery
from libs.runtime.trace import trace_id


def context_of(delivery: Delivery) -> dict[str, str | None]:
    """The request, the trace and the webhook: the context of every line about the delivery."""
    return {
        "request_id": delivery.request_id,
        "trace_id": trace_id(delivery.trace),
        "webhook_id": delivery.webhook_id,
    }
