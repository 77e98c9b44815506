"""The host of a URL in its one canonical spelling."""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import unquote

from yarl import URL

from .errors import EgressError

_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_MAX_NAME = 253


@lru_cache(maxsize=4096)
def canonical_host(host: str) -> str | IPv4Address | IPv6Address:
    """`host` as it will be dialled: an address if it spells one in any way, else a lower-case ASCII name.

    Follows the host parser of the WHATWG URL standard, because C libraries and browsers read 127.1, 0x7f.1, 2130706433
    and 0177.0.0.1 as 127.0.0.1: percent-encoding is undone, full-width and other compatibility characters are mapped
    (UTS 46), international names become Punycode. A trailing dot is kept: it makes a name fully qualified.

    Raises:
        EgressError: `bad_url`, when it is neither an address nor a name that DNS could hold.
    """
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(host[1:-1])
    name = _ascii(host)
    labels = name.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(labels, host)
    if len(name) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise EgressError("bad_url", f"“{host[:100]}” is not a valid host name")
    return name


def _ipv6(text: str) -> IPv6Address:
    try:
        return IPv6Address(text.replace("%25", "%", 1))
    except ValueError as error:
        raise EgressError("bad_url", f"[{text[:100]}] is not an IPv6 address") from error


def _ascii(host: str) -> str:
    try:
        decoded = unquote(host, errors="strict")
        return (URL.build(scheme="http", host=decoded).raw_host or "").lower()
    except ValueError as error:
        raise EgressError("bad_url", f"“{host[:100]}” is not a valid host name") from error


def _ipv4(labels: list[str], host: str) -> IPv4Address:
    try:
        return IPv4Address(_ipv4_value([_number(label) for label in labels]))
    except ValueError as error:
        raise EgressError("bad_url", f"“{host[:100]}” ends in a number but is not an IPv4 address") from error


def _ipv4_value(parts: list[int]) -> int:
    """One to four numbers, of which the last fills the bytes that are left, as in `inet_aton`."""
    *heads, last = parts
    room = 4 - len(heads)
    if room < 1 or last >= 256**room or any(head > 255 for head in heads):
        raise ValueError("not four bytes")
    return sum(head << (24 - 8 * index) for index, head in enumerate(heads)) + last


def _number(label: str) -> int:
    """Decimal, octal with a leading 0, hexadecimal with a leading 0x."""
    if not _NUMBER.fullmatch(label):
        raise ValueError("not a number")
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    if label.startswith("0") and len(label) > 1:
        return int(label, 8)
    return int(label)
