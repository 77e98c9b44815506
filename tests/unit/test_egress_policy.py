import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.egress import EgressError, EgressPolicy
from libs.egress.ranges import carried

from .egress_addresses import FORBIDDEN_V4, PUBLIC_ONLY, embeddings, forbidden_v4, refused

LOOPBACK_ALLOWED = EgressPolicy([IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")])
FORBIDDEN_V6 = [
    "::",
    "::1",
    "64:ff9b:1::808:808",
    "100::1",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
PUBLIC = ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@given(forbidden_v4, st.integers(0, 2**128 - 1))
@example(IPv4Address("127.0.0.1"), 0)
@example(IPv4Address("169.254.169.254"), 0)
def test_no_ipv6_form_of_a_forbidden_address_passes(address: IPv4Address, noise: int) -> None:
    """Mapped, compatible, SIIT, NAT64, 6to4, Teredo and ISATAP forms are refused, in every way to write them."""
    for form, embedded in embeddings(address, noise).items():
        quad = f"{embedded.exploded[:30]}{IPv4Address(int(embedded) & 0xFFFFFFFF)}"
        for written in (embedded.compressed, embedded.exploded, embedded.exploded.upper(), quad):
            assert PUBLIC_ONLY.refusal(written), (form, written)
            assert refused(PUBLIC_ONLY, f"http://[{written}]/").code == "blocked_address", form


@given(forbidden_v4, st.integers(0, 2**128 - 1), st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1))
def test_no_zone_opens_a_forbidden_address(address: IPv4Address, noise: int, zone: str) -> None:
    """Which interface to leave by changes nothing about where an address leads."""
    for form, embedded in {"itself": IPv6Address("fe80::1"), **embeddings(address, noise)}.items():
        assert PUBLIC_ONLY.refusal(f"{embedded}%{zone}"), form
        for separator in ("%", "%25"):
            assert refused(PUBLIC_ONLY, f"http://[{embedded}{separator}{zone}]/").code == "blocked_address", form


@given(forbidden_v4, st.integers(0, 2**128 - 1))
def test_an_ipv6_form_is_allowed_by_the_address_it_carries_or_by_itself_only(address: IPv4Address, noise: int) -> None:
    """The allow list covers a carrying address exactly when it covers one of the two."""
    by_v4 = EgressPolicy([IPv4Network(address)])
    elsewhere = EgressPolicy([IPv4Network("9.9.9.9/32"), IPv6Network("2a00:1450::/128")])
    forms = embeddings(address, noise)
    for form, embedded in forms.items():
        assert elsewhere.refusal(str(embedded)), form
        assert EgressPolicy([IPv6Network(embedded)]).refusal(str(embedded)) is None, form
    for form in ("mapped", "translated", "nat64", "6to4", "isatap"):
        assert by_v4.refusal(str(forms[form])) is None, form


@given(st.ip_addresses())
def test_what_passes_is_global_by_the_standard_library_too(address: IPv4Address | IPv6Address) -> None:
    """The policy is stricter than `ipaddress.is_global`, never looser."""
    if PUBLIC_ONLY.refusal(str(address)) is None and not (address.version == 6 and carried(IPv6Address(address))):
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize("address", [str(network[at]) for network in FORBIDDEN_V4 for at in (0, -1)] + FORBIDDEN_V6)
def test_both_ends_of_each_forbidden_range_are_refused(address: str) -> None:
    """A resolved address in a range that is not public is refused, with the setting that would allow it."""
    with pytest.raises(EgressError, match="DARKROOM_EGRESS_ALLOW") as caught:
        PUBLIC_ONLY.check_address(address)
    assert caught.value.code == "blocked_address"


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    """The public internet is reached, through DNS64 too."""
    PUBLIC_ONLY.check_address(address)


@pytest.mark.parametrize("address", ["", "example.com", "127.1", "0x7f.0.0.1", "1.2.3.4.5", "[::1]"])
def test_what_is_no_address_is_not_dialled(address: str) -> None:
    """A resolver's nonsense is refused rather than handed to the operating system to interpret."""
    with pytest.raises(EgressError, match="not an address"):
        EgressPolicy([IPv4Network("0.0.0.0/0"), IPv6Network("::/0")]).check_address(address)


@pytest.mark.parametrize(
    "url", ["http://127.1:8000/", "http://[::1]/", "http://localhost:8000/", "http://a.localhost./"]
)
def test_the_allow_list_opens_what_it_names(url: str) -> None:
    """With loopback allowed, its addresses and names are accepted in every spelling."""
    assert LOOPBACK_ALLOWED.check_url(url).scheme == "http"


@pytest.mark.parametrize("url", ["http://0.0.0.0/", "http://10.0.0.1/", "http://[fe80::1%25lo]/", "http://[::]/"])
def test_the_allow_list_opens_nothing_else(url: str) -> None:
    """0.0.0.0 reaches this machine too, but was not named."""
    assert refused(LOOPBACK_ALLOWED, url).code == "blocked_address"


def test_a_zone_identifier_is_refused_even_where_its_address_is_allowed() -> None:
    """Which interface a URL of somebody else means cannot be known here."""
    assert refused(EgressPolicy([IPv6Network("fe80::/10")]), "http://[fe80::1%25eth0]/").code == "bad_url"


def test_a_policy_keeps_networks_that_come_from_an_iterator() -> None:
    """A generator as allow list does not run dry after the first check."""
    policy = EgressPolicy(ipaddress.IPv4Network(text) for text in ["10.0.0.0/8"])
    assert policy.refusal("10.0.0.1") is None
    assert policy.refusal("10.0.0.1") is None
