"""Forbidden addresses, and all the ways to write and to carry them."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import strategies as st

from libs.egress import EgressError, EgressPolicy

PUBLIC_ONLY = EgressPolicy()

FORBIDDEN_V4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]


def addresses_of(networks: list[IPv4Network]) -> st.SearchStrategy[IPv4Address]:
    """Any address of any of the networks."""
    return st.sampled_from(networks).flatmap(
        lambda network: st.integers(int(network[0]), int(network[-1])).map(IPv4Address)
    )


forbidden_v4 = addresses_of(FORBIDDEN_V4)
public_v4 = addresses_of([IPv4Network("0.0.0.0/0")]).filter(lambda address: PUBLIC_ONLY.refusal(str(address)) is None)


@st.composite
def spellings(draw: st.DrawFn, address: IPv4Address) -> str:
    """One of the ways in which C libraries and browsers accept an IPv4 address."""
    count = draw(st.integers(1, 4))
    value = int(address)
    heads = [value >> (24 - 8 * index) & 0xFF for index in range(count - 1)]
    parts = [*heads, value & (1 << 8 * (5 - count)) - 1]
    text = ".".join(draw(st.sampled_from([str(part), f"0{part:o}", f"0x{part:x}", f"0X{part:04X}"])) for part in parts)
    text += draw(st.sampled_from(["", "."]))
    match draw(st.sampled_from(["plain", "full width", "percent"])):
        case "full width":
            return "".join(chr(ord(letter) + 0xFEE0) if letter.isdigit() else letter for letter in text)
        case "percent":
            return "".join(f"%{ord(letter):02x}" for letter in text)
    return text


LOCAL_NAT64 = int(IPv6Address("64:ff9b:1::"))


def embeddings(address: IPv4Address, noise: int) -> dict[str, IPv6Address]:
    """Every IPv6 form that carries `address`; `noise` fills the bits that are free."""
    value = int(address)
    return {
        "mapped": IPv6Address(0xFFFF << 32 | value),
        "compatible": IPv6Address(value),
        "translated": IPv6Address(0xFFFF << 48 | value),
        "nat64": IPv6Address(int(IPv6Address("64:ff9b::")) | value),
        "local nat64, last": IPv6Address(LOCAL_NAT64 | noise & 0xFFFFFFFF << 48 | value),
        # RFC 6052, 2.2: octet 8 stays zero, and the address goes around it.
        "local nat64, /48": IPv6Address(LOCAL_NAT64 | value >> 16 << 64 | (value & 0xFFFF) << 40),
        "local nat64, /56": IPv6Address(LOCAL_NAT64 | value >> 24 << 64 | (value & 0xFFFFFF) << 32),
        "local nat64, /64": IPv6Address(LOCAL_NAT64 | value << 24),
        "6to4": IPv6Address(0x2002 << 112 | value << 80 | noise & (1 << 80) - 1),
        "teredo client": IPv6Address(
            0x20010000 << 96 | 0x08080808 << 64 | noise & 0xFFFFFFFF << 32 | value ^ 0xFFFFFFFF
        ),
        "teredo server": IPv6Address(0x20010000 << 96 | value << 64 | noise & (1 << 64) - 1),
        "isatap": IPv6Address(int(IPv6Address("2a00:1450::")) | noise & 0xFFFF << 64 | 0x5EFE << 32 | value),
        "isatap, universal": IPv6Address(int(IPv6Address("2a00:1450::")) | 0x02005EFE << 32 | value),
    }


# An address and one of its spellings.
spelled = forbidden_v4.flatmap(lambda address: st.tuples(st.just(address), spellings(address)))


def refused(policy: EgressPolicy, url: str) -> EgressError:
    """The refusal of `url`."""
    with pytest.raises(EgressError) as caught:
        policy.check_url(url)
    return caught.value
