import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.egress import EgressError, EgressPolicy
from libs.egress.ranges import carried

PUBLIC_ONLY = EgressPolicy()
LOOPBACK_ALLOWED = EgressPolicy([IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")])

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


def embeddings(address: IPv4Address, noise: int) -> dict[str, IPv6Address]:
    """Every IPv6 form that carries `address`; `noise` fills the bits that are free."""
    value = int(address)
    return {
        "mapped": IPv6Address(0xFFFF << 32 | value),
        "compatible": IPv6Address(value),
        "translated": IPv6Address(0xFFFF << 48 | value),
        "nat64": IPv6Address(int(IPv6Address("64:ff9b::")) | value),
        "6to4": IPv6Address(0x2002 << 112 | value << 80 | noise & (1 << 80) - 1),
        "teredo client": IPv6Address(
            0x20010000 << 96 | 0x08080808 << 64 | noise & 0xFFFFFFFF << 32 | value ^ 0xFFFFFFFF
        ),
        "teredo server": IPv6Address(0x20010000 << 96 | value << 64 | noise & (1 << 64) - 1),
        "isatap": IPv6Address(int(IPv6Address("2a00:1450::")) | noise & 0xFFFF << 64 | 0x5EFE << 32 | value),
        "isatap, universal": IPv6Address(int(IPv6Address("2a00:1450::")) | 0x02005EFE << 32 | value),
    }


def refused(policy: EgressPolicy, url: str) -> EgressError:
    """The refusal of `url`."""
    with pytest.raises(EgressError) as caught:
        policy.check_url(url)
    return caught.value


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "017700000001",
        "\uff11\uff12\uff17.0.0.1",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "%31%32%37.0.0.1",
        "0",
        "0x",
        "0.0.0.0",  # noqa: S104 (requested, not bound)
        "100.64.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::FFFF:7F00:1]",
        "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "[2001:0:7f00:1::1]",
        "[2a00:1450::5efe:10.0.0.1]",
        "[2a00:1450::200:5efe:10.0.0.1]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[ff02::1]",
        "[2001:db8::1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "ⓛocalhost",
        "www.localhost",
        "www.localhost.",
    ],
)
@pytest.mark.parametrize("port", ["", ":80", ":8080"])
def test_a_url_that_spells_a_forbidden_host_is_blocked(host: str, port: str) -> None:
    """Every spelling is refused without DNS, and the refusal names the setting that would allow it."""
    refusal = refused(PUBLIC_ONLY, f"http://{host}{port}/a.jpg")
    assert (refusal.code, refusal.retryable) == ("blocked_address", False)
    assert "DARKROOM_EGRESS_ALLOW" in refusal.detail


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://example.com/a.jpg", "bad_scheme"),
        ("file:///etc/passwd", "bad_scheme"),
        ("data:image/png;base64,AAAA", "bad_scheme"),
        ("gopher://127.0.0.1:70/", "bad_scheme"),
        ("http://user:pass@example.com/", "credentials_in_url"),
        ("http://user@example.com/", "credentials_in_url"),
        ("http://@example.com/", "credentials_in_url"),
        ("http://example.com:80@127.0.0.1/", "credentials_in_url"),
        ("example.com/a.jpg", "bad_url"),
        ("/a.jpg", "bad_url"),
        ("", "bad_url"),
        ("http:", "bad_url"),
        ("http:example.com", "bad_url"),
        ("http:///a.jpg", "bad_url"),
        ("http://:80/", "bad_url"),
        ("http://example.com:0/", "bad_url"),
        ("http://example.com:65536/", "bad_url"),
        ("http://example.com:+80/", "bad_url"),
        ("http://example.com:\uff18\uff10/", "bad_url"),
        ("http://example.com:80:80/", "bad_url"),
        (" http://example.com/", "bad_url"),
        ("http://example.com/a b", "bad_url"),
        ("http://example.com/\r\nHost: internal", "bad_url"),
        ("http://example.com/\x00", "bad_url"),
        ("http://example.com\\@127.0.0.1/", "credentials_in_url"),
        ("http://example.com\\.evil.com/", "bad_url"),
        ("http://exa mple.com/", "bad_url"),
        ("http://exa%20mple.com/", "bad_url"),
        ("http://example.com%2f.evil.com/", "bad_url"),
        ("http://example.com%ff/", "bad_url"),
        ("http://exa\u00admple.com/", "bad_url"),
        ("http://a..b/", "bad_url"),
        ("http://localhost../", "bad_url"),
        (f"http://{'a' * 64}.com/", "bad_url"),
        (f"http://{'a.' * 127}com/", "bad_url"),
        ("http://1.2.3.4.5/", "bad_url"),
        ("http://256.1.1.1/", "bad_url"),
        ("http://1.1.1.256/", "bad_url"),
        ("http://08.1.1.1/", "bad_url"),
        ("http://4294967296/", "bad_url"),
        ("http://example.0x7f/", "bad_url"),
        ("http://[::1/", "bad_url"),
        ("http://[::g]/", "bad_url"),
        ("http://[::1]x/", "bad_url"),
        ("http://[v1.a]/", "bad_url"),
        ("http://\ud800.com/", "bad_url"),
    ],
)
def test_a_url_that_cannot_be_requested_is_told_by_its_code(url: str, code: str) -> None:
    """What is no http(s) URL, or has credentials in it, is refused as such."""
    assert refused(LOOPBACK_ALLOWED, url).code == code


@pytest.mark.parametrize(
    ("given_url", "requested"),
    [
        ("http://example.com", "http://example.com/"),
        ("HTTP://EXAMPLE.com:80/A", "http://example.com/A"),
        ("https://example.com:443/", "https://example.com/"),
        ("https://example.com:8443/", "https://example.com:8443/"),
        ("http://example.com.:/", "http://example.com./"),
        ("http://a_b.example.com/", "http://a_b.example.com/"),
        ("http://bücher.example/ä?ö=ü#ß", "http://xn--bcher-kva.example/%C3%A4?%C3%B6=%C3%BC"),
        ("http://ex%61mple.com/%61%2f%2F%7e%zz", "http://example.com/%61%2f%2F%7e%zz"),
        ("http://example.com/a/../b/./c//d", "http://example.com/a/../b/./c//d"),
        ("http://example.com/w_200,h_300/a.jpg", "http://example.com/w_200,h_300/a.jpg"),
        ("http://example.com/a;b=c?X-Sig=a%2Bb+c/d%3D&e=|[]'", "http://example.com/a;b=c?X-Sig=a%2Bb+c/d%3D&e=|[]'"),
        ('http://example.com/a"<>^`{}\\?"<>', "http://example.com/a%22%3C%3E%5E%60%7B%7D%5C?%22%3C%3E"),
        ("http://0x08080808/", "http://8.8.8.8/"),
        ("http://[2606:4700:4700:0:0:0:0:1111]:81/", "http://[2606:4700:4700::1111]:81/"),
    ],
)
def test_a_url_is_requested_as_it_was_given(given_url: str, requested: str) -> None:
    """Only the host is made canonical, and only what a URL cannot hold is encoded: signatures stay valid."""
    assert str(PUBLIC_ONLY.check_url(given_url)) == requested


@given(st.text(st.sampled_from("abcXYZ019-._~!$&'()*+,;=:@/%|[]"), max_size=60))
def test_every_valid_path_and_query_is_sent_byte_for_byte(target: str) -> None:
    """No character that a URL may hold is encoded, decoded, reordered or dropped."""
    sent = PUBLIC_ONLY.check_url(f"https://example.com/{target}?{target}x")
    assert sent.raw_path_qs == f"/{target}?{target}x"


@given(forbidden_v4.flatmap(lambda address: st.tuples(st.just(address), spellings(address))))
def test_no_spelling_of_a_forbidden_address_passes(case: tuple[IPv4Address, str]) -> None:
    """Decimal, octal, hexadecimal, short, full-width and percent-encoded forms are all the address they mean."""
    address, spelling = case
    assert refused(PUBLIC_ONLY, f"http://{spelling}/").code == "blocked_address"
    allowed = EgressPolicy([IPv4Network(address)]).check_url(f"http://{spelling}/")
    assert allowed.raw_host == str(address)


@given(public_v4.flatmap(lambda address: st.tuples(st.just(address), spellings(address))))
def test_a_public_address_is_dialled_in_its_canonical_spelling(case: tuple[IPv4Address, str]) -> None:
    """What was checked is what aiohttp gets: nobody else interprets the spelling again."""
    address, spelling = case
    assert PUBLIC_ONLY.check_url(f"http://{spelling}/").raw_host == str(address)


@given(forbidden_v4, st.integers(0, 2**128 - 1))
@example(IPv4Address("127.0.0.1"), 0)
@example(IPv4Address("169.254.169.254"), 0)
def test_no_ipv6_form_of_a_forbidden_address_passes(address: IPv4Address, noise: int) -> None:
    """Mapped, compatible, SIIT, NAT64, 6to4, Teredo and ISATAP forms are refused, in every way to write them."""
    for form, embedded in embeddings(address, noise).items():
        for written in (embedded.compressed, embedded.exploded, embedded.exploded.upper()):
            assert PUBLIC_ONLY.refusal(written), (form, written)
            assert refused(PUBLIC_ONLY, f"http://[{written}]/").code == "blocked_address", form


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
