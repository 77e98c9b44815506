"""URLs, taken apart and put together without touching a byte that is valid as it stands.

Signed URLs break when a client decodes and quotes them again, which is what yarl does unless it is told that everything
is encoded already.
"""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from yarl import URL

from .errors import EgressError
from .hosts import canonical_host

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.ASCII | re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x20\x7f\ud800-\udfff]")
# What RFC 3986 does not allow to stand in a path or query. Browsers and servers agree on | [ ] and a lone %: they stay.
# One class, since two alternatives take three times as long: all but ASCII without its controls, space and "<>\^`{}.
_UNENCODED = re.compile(r"[^!#-;=?-\[\]_a-z|~]")
# RFC 3986, appendix B, after the scheme: authority, path, query. `urlsplit` takes four times as long, and the million
# URLs of a catalogue have few authorities, which it still judges.
_PARTS = re.compile(r"(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?")
# A URL that is in its one spelling but for its authority, as nearly all are; told in a third of the time.
_PLAIN = re.compile(r"(https?)://([^/?#\x00-\x20\x7f\ud800-\udfff]*)(/[!$-;=?-\[\]_a-z|~]*(?<!\?))")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class CanonicalUrl(NamedTuple):
    """A URL in its one spelling, and its host as it will be dialled, without brackets."""

    text: str
    host: str


def parse_url(text: str) -> URL:
    """`text` as the URL to request; see `canonical_url`."""
    return URL(canonical_url(text).text, encoded=True)


def canonical_url(text: str) -> CanonicalUrl:
    """`text` with canonical host, path and query exactly as given, no fragment.

    Only characters that a URL cannot hold are percent-encoded (as UTF-8). A `?` with nothing after it is dropped.

    Raises:
        EgressError: `bad_scheme` for anything but http and https, `credentials_in_url`, `bad_url`.
    """
    if plain := _PLAIN.fullmatch(text):
        scheme, netloc, target = plain.groups()
        authority, host = _authority(scheme, netloc)
        return CanonicalUrl(f"{scheme}://{authority}{target}", host)
    if unsafe := _UNSAFE.search(text):
        raise EgressError(
            "bad_url", f"the URL has a character in it that no URL may have (U+{ord(unsafe.group()):04X})"
        )
    scheme = _scheme(text)
    parts = _PARTS.match(text, len(scheme) + 1)
    netloc, path, query = parts.groups() if parts else ("", "", "")
    authority, host = _authority(scheme, netloc or "")
    target = _UNENCODED.sub(_quoted, path or "/")
    if query:
        target += "?" + _UNENCODED.sub(_quoted, query)
    return CanonicalUrl(f"{scheme}://{authority}{target}", host)


def redirect_url(current: URL, location: str) -> str:
    """Where the `Location` header of an answer to `current` points (RFC 9110, 10.2.2), not checked yet.

    Servers put spaces and raw UTF-8 into it, which is encoded here.
    """
    raw = location.strip().encode("utf-8", "surrogateescape")
    encoded = "".join(chr(byte) if 0x21 <= byte <= 0x7E else f"%{byte:02X}" for byte in raw)
    if _SCHEME.match(encoded):
        return encoded
    try:
        return urljoin(str(current), encoded)
    except ValueError as error:
        raise EgressError("bad_url", f"the redirect does not lead to a URL: {error}") from error


def _scheme(text: str) -> str:
    match = _SCHEME.match(text)
    if match is None:
        raise EgressError("bad_url", "a URL starts with http:// or https://")
    scheme = match.group(1).lower()
    if scheme not in _DEFAULT_PORTS:
        raise EgressError("bad_scheme", f"only http and https are fetched, not {scheme[:40]}")
    return scheme


@lru_cache(maxsize=1024)
def _authority(scheme: str, netloc: str) -> tuple[str, str]:
    """Host and port as they are written in the URL, and the host alone."""
    if "@" in netloc:
        raise EgressError("credentials_in_url", "a user name or password in a URL is not accepted")
    try:
        port = urlsplit(f"{scheme}://{netloc}").port
    except ValueError as error:
        # Without what it says: that quotes the URL, and a password with a slash in it stands where a port would.
        raise EgressError("bad_url", "not a URL: its host or its port cannot be read") from error
    host = netloc if netloc.endswith("]") else re.sub(r":[0-9]*\Z", "", netloc)
    if not host or port == 0:
        raise EgressError("bad_url", "the URL names no host" if not host else "port 0 cannot be connected to")
    canonical = canonical_host(host)
    written = f"[{canonical}]" if isinstance(canonical, IPv6Address) else str(canonical)
    is_default = port in {None, _DEFAULT_PORTS[scheme]}
    return written if is_default else f"{written}:{port}", str(canonical)


def _quoted(match: re.Match[str]) -> str:
    return quote(match.group(), safe="")
