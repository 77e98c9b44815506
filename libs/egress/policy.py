"""Which addresses outbound requests may reach: the public internet, and what the operator allows on top of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from yarl import URL

from .errors import EgressError
from .ranges import carried, forbidden_range, isatap
from .urls import CanonicalUrl, canonical_url

_LOOPBACKS = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Refuses every address that is not public, in every spelling and inside every IPv6 address that carries it.

    `allow` are the networks of `DARKROOM_EGRESS_ALLOW`, which may be reached although they are not public. An IPv6
    address that carries an IPv4 one is allowed if the list covers itself, or covers the IPv4 address.
    """

    allow: Iterable[IPv4Network | IPv6Network] = ()
    # Judging takes longer than all the rest of a URL, and the URLs of a catalogue have few hosts.
    _judged: Callable[[str], str | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "allow", tuple(self.allow))
        object.__setattr__(self, "_judged", lru_cache(maxsize=4096)(self._judge))

    def check_url(self, url: str) -> URL:
        """The URL to request, as far as it can be judged without DNS; the address dialled is checked again.

        Raises:
            EgressError: `bad_url`, `bad_scheme`, `credentials_in_url`, or `blocked_address` for a literal address in
                whatever spelling and for the names of this machine (RFC 6761, 6.3).
        """
        return URL(self.check(url).text, encoded=True)

    def check(self, url: str) -> CanonicalUrl:
        """As `check_url`, for who does not request it: to make a URL of it takes as long as all the rest."""
        canonical = canonical_url(url)
        host = canonical.host
        name = host.removesuffix(".")
        if name == "localhost" or name.endswith(".localhost"):
            if not any(self._allowed(address) for address in _LOOPBACKS):
                raise blocked(f"{host} is this machine")
        elif ":" in host or name.rpartition(".")[2].isdecimal():
            self._check_literal(host)
        return canonical

    def check_address(self, address: str) -> None:
        """Refuses one address that a name resolved to or that is about to be dialled, e.g. `10.0.0.1`, `fe80::1%eth0`.

        Raises:
            EgressError: `blocked_address`; also for what is not an address at all.
        """
        if reason := self.refusal(address):
            raise blocked(f"{address} is {reason}")

    def refusal(self, address: str) -> str | None:
        """Why `address` may not be reached, such as `private (10.0.0.0/8)`; None if it may."""
        return self._judged(address)

    def _judge(self, address: str) -> str | None:
        try:
            # A zone says by which interface to go, not where to: it is left out of the decision.
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return "not an address"
        return self._refusal(parsed)

    def _check_literal(self, host: str) -> None:
        self.check_address(host)
        if "%" in host:
            raise EgressError("bad_url", f"{host} has a zone identifier, which means something on one machine only")

    def _refusal(self, address: IPv4Address | IPv6Address) -> str | None:
        if self._allowed(address):
            return None
        if isinstance(address, IPv4Address):
            return forbidden_range(address)
        tunnelled = carried(address)
        interface = isatap(address)
        for inner in (*tunnelled, *((interface,) if interface else ())):
            if reason := self._refusal(inner):
                return f"a way to {inner}, {reason}"
        if tunnelled and all(self._allowed(inner) for inner in tunnelled):
            return None
        return forbidden_range(address)

    def _allowed(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self.allow)


def blocked(reason: str) -> EgressError:
    """The refusal of an address, naming the setting that would allow it."""
    return EgressError(
        "blocked_address", f"{reason}; outbound requests reach only public addresses and those in DARKROOM_EGRESS_ALLOW"
    )
