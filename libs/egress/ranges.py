"""Address ranges that are not the public internet, and the IPv4 addresses that IPv6 addresses carry.

`ipaddress.is_global` is not enough: it calls NAT64, 6to4, SIIT and ISATAP forms of 127.0.0.1 global, and multicast too.
The ranges are the IANA special-purpose registries (RFC 6890 and its updates), read strictly.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

_FORBIDDEN_V4 = tuple(
    (IPv4Network(network), name)
    for network, name in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        # Azure's virtual host agent: a public number that only ever reaches the machine's own platform.
        ("168.63.129.16/32", "platform"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)

# The narrower before the wider, so that a refusal says the most telling name.
_FORBIDDEN_V6 = tuple(
    (IPv6Network(network), name)
    for network, name in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discard-only"),
        ("2001::/32", "Teredo"),
        ("2001:2::/48", "benchmarking"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "documentation"),
        ("3ffe::/16", "reserved"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)

_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291, 2.5.5.2
_COMPATIBLE = IPv6Network("::/96")  # RFC 4291, 2.5.5.1
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")  # SIIT, RFC 2765
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_SIX_TO_FOUR = IPv6Network("2002::/16")  # RFC 3056
_TEREDO = IPv6Network("2001::/32")  # RFC 4380

# Outside these, IPv6 is not allocated. A network with DNS64 reaches every IPv4 host through the NAT64 prefix.
_ROUTED_V6 = (IPv6Network("2000::/3"), _MAPPED, _NAT64)

_LOW_32 = 0xFFFF_FFFF
# ISATAP's interface identifier is [00|01|02|03]00:5efe followed by the IPv4 address (RFC 5214, 6.1).
_ISATAP_MASK = 0xFCFF_FFFF
_ISATAP_MARK = 0x0000_5EFE


def forbidden_range(address: IPv4Address | IPv6Address) -> str | None:
    """What kind of not public range `address` lies in, such as `private (10.0.0.0/8)`; None for a public address.

    Looks at the address itself, not at one that it carries.
    """
    if isinstance(address, IPv4Address):
        return next((f"{name} ({network})" for network, name in _FORBIDDEN_V4 if address in network), None)
    for network, name in _FORBIDDEN_V6:
        if address in network:
            return f"{name} ({network})"
    return None if any(address in network for network in _ROUTED_V6) else "unallocated"


def carried(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that a packet to `address` is handed on to, by its prefix; none for a native IPv6 address."""
    value = int(address)
    last = IPv4Address(value & _LOW_32)
    if address in _MAPPED or address in _NAT64 or address in _TRANSLATED:
        return (last,)
    if address in _COMPATIBLE and value > 1:
        return (last,)
    if address in _SIX_TO_FOUR:
        return (IPv4Address(value >> 80 & _LOW_32),)
    if address in _TEREDO:
        server, client = value >> 64 & _LOW_32, ~value & _LOW_32
        return (IPv4Address(server), IPv4Address(client))
    return ()


def isatap(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address in the interface identifier of an ISATAP address, under whatever prefix."""
    value = int(address)
    if value >> 32 & _ISATAP_MASK == _ISATAP_MARK:
        return IPv4Address(value & _LOW_32)
    return None
