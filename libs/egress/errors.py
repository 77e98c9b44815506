"""Why an outbound request failed, in one exception with a stable code."""

import aiohttp


class EgressError(Exception):
    """An outbound request was refused or failed.

    `code` is stable and stands in the API, the logs and the metrics; `detail` is a sentence for people. `retryable`
    says whether the same request may succeed later, `retry_after_seconds` how long the other side asked to wait (None:
    it did not ask).
    """

    def __init__(
        self, code: str, detail: str, *, retryable: bool = False, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class BlockedDialError(OSError):
    """A socket was about to be opened to a forbidden address.

    An `OSError` because aiohappyeyeballs races several addresses and keeps no other kind of failure. `refusal` is what
    the caller gets to see.
    """

    def __init__(self, refusal: EgressError) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class BrokenBodyError(aiohttp.ClientPayloadError):
    """The framing of a body makes no sense."""


_MAX_SAID = 200

# Looked through from the top: the classes of aiohttp's errors overlap.
_TRANSPORT: tuple[tuple[type[Exception], str, str, bool], ...] = (
    (aiohttp.ClientConnectorDNSError, "dns_error", "{host} could not be resolved: {said}", True),
    (aiohttp.ClientSSLError, "tls_error", "no trusted TLS connection to {host}: {said}", False),
    (TimeoutError, "timeout", "{host} did not answer in time", True),
    (BrokenBodyError, "bad_response", "{host} sent no valid body: {said}", True),
    (aiohttp.ClientPayloadError, "truncated_download", "{host} sent no whole body: {said}", True),
    (aiohttp.ClientResponseError, "bad_response", "{host} sent no valid HTTP answer: {said}", True),
    (aiohttp.InvalidURL, "bad_url", "the URL cannot be requested: {said}", False),
)


def from_transport(error: aiohttp.ClientError | OSError, host: str) -> EgressError:
    """The `EgressError` that stands for what aiohttp or the socket reported while talking to `host`."""
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, BlockedDialError):
        return error.os_error.refusal
    for kind, code, sentence, retryable in _TRANSPORT:
        if isinstance(error, kind):
            return EgressError(code, sentence.format(host=host, said=_said(error)), retryable=retryable)
    return EgressError("connect_error", f"the connection to {host} failed: {_said(error)}", retryable=True)


def _said(error: BaseException) -> str:
    """One short line of the error's own words: a detail is stored and shown, and servers can put bytes into it."""
    words = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error) or type(error).__name__
    return " ".join(str(words).split())[:_MAX_SAID]
