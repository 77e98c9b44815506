import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.egress import EgressError, EgressPolicy

from .egress_addresses import PUBLIC_ONLY, public_v4, refused, spelled, spellings

LOOPBACK_ALLOWED = EgressPolicy([IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")])


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
        "\u24910.0.1",
        "0X7F.0.0.0X1",
        "127.0.1",
        "127.0x1",
        "0x7F.0.0x0.01",
        "%30x7f%2E1",
        "\uff10\uff11\uff17\uff17.1",
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
        ("http://%5B::1%5D/", "bad_url"),
        ("http://::1/", "bad_url"),
        ("http://[127.0.0.1]/", "bad_url"),
        ("http://[::1%25/", "bad_url"),
        ("http://[::ffff:127.1]/", "bad_url"),
        ("http://[::ffff:0177.0.0.1]/", "bad_url"),
        ("http://[\uff1a\uff1a1]/", "bad_url"),
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


@given(spelled)
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


@given(spelled, st.text(st.characters(codec="utf-8", exclude_characters="/?#\\"), max_size=8), st.sampled_from("@:"))
def test_no_user_name_hides_the_host(case: tuple[IPv4Address, str], user: str, mark: str) -> None:
    """Whatever stands before an @ is refused, in front of any host and with any host as the user's name."""
    _, spelling = case
    for authority in (f"{user}{mark}x@{spelling}", f"{spelling}{mark}x@example.com", f"{spelling}@"):
        with pytest.raises(EgressError) as caught:
            PUBLIC_ONLY.check_url(f"http://{authority}/")
        assert caught.value.code in {"credentials_in_url", "bad_url"}


numeric_hosts = st.one_of(
    st.text(st.sampled_from("0123456789abcdefxX.%-_\uff10\uff18\u3002\u2488\u2460[]:"), min_size=1, max_size=24),
    st.lists(st.sampled_from(["0", "1", "127", "0x7f", "0177", "256", "0x", "08", "", "4294967295", "1e2", "+1"])).map(
        ".".join
    ),
)


@given(numeric_hosts)
@example("127.1")
@example("1.2.3.4.")
def test_no_host_that_passes_is_another_address_to_the_c_library(host: str) -> None:
    """What getaddrinfo reads as an address, in whatever way, has been judged as that address."""
    try:
        passed = PUBLIC_ONLY.check_url(f"http://{host}/").raw_host
    except EgressError:
        return
    assert passed
    try:
        [info, *_] = socket.getaddrinfo(passed, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return
    assert info[4][0] == passed
    assert PUBLIC_ONLY.refusal(str(info[4][0])) is None


def in_one_spelling(url: str) -> tuple[str, str] | str:
    """The URL and its host, or the code of its refusal."""
    try:
        return PUBLIC_ONLY.check(url)
    except EgressError as error:
        return error.code


parts = st.text(st.sampled_from("aZ09-._~:@!$&'()*+,;=%|[]/?#\\^`{}<>\" \t\n\x7f\ud800é€"), max_size=12)


@given(st.sampled_from(["http", "https"]), st.sampled_from(["a.example", "B.Example:8080", "10.0.0.1"]) | parts, parts)
@example("http", "a.example", "/?")
@example("http", "a.example", "/a?b#c")
@example("https", "a.example:443", "/a?b?")
def test_a_url_is_read_the_same_whether_it_is_plain_or_not(scheme: str, authority: str, target: str) -> None:
    """A scheme in capitals is not plain, and so has the rest taken apart piece by piece."""
    rest = f"://{authority}{target}"

    assert in_one_spelling(scheme + rest) == in_one_spelling(scheme.upper() + rest)
