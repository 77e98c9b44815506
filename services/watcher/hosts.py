"""How the images of one host leave the others their slots."""

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice

from libs.documents import HeldImage, Postponed
from libs.leases import Claim, Shares
from libs.mongo import Document
from libs.runtime import metrics

_PASSING = 32
_PASSING_FAR = 512
_KEPT = 64
_BROUGHT_BACK = 256
_REACH = 4096
_PAUSES_SECONDS = (0.1, 8.0)
_POSTPONED_PAUSES = 10
_PATIENCE_SECONDS = (0.5, 5.0)
_POSTPONED_SECONDS = 10.0
_LOOK_SECONDS = 0.25
_REMEMBERED = 4096
_BACKLOG = 64
_WAITING_SHARES = 2
_LATELY = 16  # hosts: of so many that answer at the same time, no claim has more than a share of each
_WAITING_SECONDS = 0.5


class Hosts:
    """At most `each` images of one host are downloaded; those that stand before others' are passed over.

    One that waits for a codec has what it wanted of its host, and makes room for the next.
    They stay where they are, so that the next of them starts as soon as one has ended. Where only such images were
    seen, others are looked for four times a second, and in between no more is claimed than these hosts have room for.
    Such a look reads hundreds of images. So while these are claimed all the same, each time from the front of the
    queue, where new requests start, looks that bring nothing to light become as rare as one in two seconds.

    A claim costs nearly the same for one image as for several. So while there is a backlog, which is when 64 images
    in a row were claimed without coming to the end of what is pending, several are claimed at once where that keeps
    nothing idle: as many wait in the session for a host as it has lately answered in half a second, up to twice its
    share (they take no slot), and more are claimed when half of these have started; and where half of the `slots` wait
    for a codec, a quarter of them is to be free first.

    Where nothing but such images is found among the first 512, and those of a host that was not seen are among the next
    4,096, what is behind the first 64 is put off, to see what is behind that: at first after half a second and for ten
    seconds, and while that brings nothing to light less often and for longer, in the end every eight seconds and for
    eighty. So a watcher is past two thousand images of hosts that have their share in about two seconds, and reaches
    past some five thousand; what is behind even more of them waits until these are fewer. Where these hosts have lately
    answered so fast that as many as were seen are done within five seconds, so long is waited first: to put an image
    off and bring it back takes as many writes as to claim and complete it, and most of such images are done sooner than
    that. What was put off comes back as soon as its host has room and nothing else of it is to be seen.

    `on_leave` is called when a host has room for another, `on_return` with the lowest rank of what came back.
    """

    def __init__(
        self,
        each: int,
        postponed: Postponed,
        *,
        slots: int,
        on_leave: Callable[[], None] = lambda: None,
        on_return: Callable[[float], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._each = each
        self._slots = slots
        self._postponed = postponed
        self._on_leave = on_leave
        self._on_return = on_return
        self._clock = clock
        self._passing = _PASSING
        self._pause_seconds = _PAUSES_SECONDS[0]
        self._next_at = 0.0
        self._barred: set[str] = set()
        self._barred_since: float | None = None
        self._left: set[HeldImage] = set()
        self._look_at = self._looked_at = 0.0
        self._away: dict[str, deque[Document]] = {}
        self._in_a_row = 0
        self._answered: dict[str, deque[float]] = {}

    def leave(self, image: HeldImage) -> None:
        """Nothing more is wanted of the host of `image`."""
        self._left.add(image)
        # One more than its share, which is asked for at once and may be answered so, however long that took.
        answered = self._answered.pop(image.host, None) or deque(maxlen=self._each + 1)
        answered.append(self._clock())
        self._answered[image.host] = answered  # behind those that answered before it
        self._on_leave()

    def shares(self, working: Iterable[HeldImage]) -> Shares:
        """What may be claimed beside what is worked on."""
        counts = self._by_host(working)
        lately = islice(reversed(self._answered), _LATELY)
        held = {host: self._each - self._room(host, counts[host]) for host in {*counts, *lately}}
        return Shares("host", self._each, held, passing=self._passing)

    def limit(self, free: int, working: Collection[HeldImage]) -> int:
        """How many images to claim now that there are `free` slots."""
        held = self._by_host(working)
        free += sum(max(0, count - self._each) for count in held.values())
        if self._has_backlog and free * 4 < self._slots <= len(self._left) * 2:
            return 0
        if self._clock() < self._look_at:
            free = min(free, sum(self._room(host, held[host]) for host in self._barred))
        return free

    @property
    def _has_backlog(self) -> bool:
        return self._in_a_row >= _BACKLOG

    def _room(self, host: str, held: int) -> int:
        """How many more to claim of a host of which so many are held; where some may wait, none until several may."""
        waiting = self._waiting(host)
        room = max(0, self._each + waiting - held)
        return room if room * 2 >= waiting else 0

    def _waiting(self, host: str) -> int:
        """How many may wait for a host: none where there is no backlog, or before it has answered more than a share."""
        answered = self._answered.get(host)
        if answered is None or len(answered) <= self._each or not self._has_backlog:
            return 0
        seconds = max(self._clock() - answered[0], _WAITING_SECONDS / _WAITING_SHARES)
        return int(self._each * _WAITING_SECONDS / seconds)

    @property
    def look_seconds(self) -> float:
        """Until other hosts' images are to be looked for, at most a quarter of a second."""
        return max(0.0, self._look_at - self._clock())

    async def make_way(self, claim: Claim, working: Iterable[HeldImage]) -> bool:
        """To be called after each claim, with what is worked on by then; true when it is worth to claim again."""
        self._in_a_row = 0 if claim.exhausted else self._in_a_row + len(claim.documents)
        if claim.exhausted or len(self._answered) > _REMEMBERED:
            self._answered.clear()
        if claim.documents or not claim.withheld:
            if not {image["host"] for image in claim.documents} & self._barred:
                # Twice what stood before others now: so the next claim reaches behind it, and does not read much more.
                self._passing = min(_PASSING_FAR, max(_PASSING, 2 * len(claim.withheld)))
                self._pause_seconds, self._look_at = _PAUSES_SECONDS[0], 0.0
                self._barred_since = None
            else:  # it has seen the front, where new requests start
                far = max(_LOOK_SECONDS, self._pause_seconds / 4)
                self._look_at = max(self._look_at, min(self._clock() + _LOOK_SECONDS, self._looked_at + far))
            return await self._bring_back(claim, self._by_host(working))
        self._barred = {image["host"] for image in claim.withheld}
        self._looked_at = self._clock()
        self._look_at = self._looked_at + _LOOK_SECONDS
        since = self._barred_since = self._looked_at if self._barred_since is None else self._barred_since
        if await self._bring_back(claim, self._by_host(working)):
            self._look_at = 0.0
            return True
        if len(claim.withheld) >= self._passing and await self._reaches_further(claim, since):
            self._look_at = 0.0
            return True
        return False

    async def _reaches_further(self, claim: Claim, since: float) -> bool:
        """Has the next claim see more than this one; nothing but what was barred has been seen `since`."""
        if self._passing < _PASSING_FAR:
            self._passing = _PASSING_FAR
            return True
        if self._clock() < max(self._next_at, since + self._patience_seconds):
            return False
        seconds = max(_POSTPONED_SECONDS, self._pause_seconds * _POSTPONED_PAUSES)
        self._next_at = self._clock() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, _PAUSES_SECONDS[1])
        if not await self._postponed.is_before_others(self._barred, claim.withheld[-1]["rank"], among=_REACH):
            return False
        await self._put_off(claim.withheld[_KEPT:], seconds)
        return True

    @property
    def _patience_seconds(self) -> float:
        """How long images that stand before others' are left there: where their hosts are fast, until they are done."""
        answers = [self._answered[host] for host in self._barred if len(self._answered.get(host, ())) > self._each]
        per_second = sum(self._each / max(self._clock() - answered[0], 1e-3) for answered in answers)
        shortest, longest = _PATIENCE_SECONDS
        return _PASSING_FAR / per_second if per_second * longest >= _PASSING_FAR else shortest

    async def _put_off(self, withheld: Sequence[Document], seconds: float) -> None:
        seconds *= random.uniform(0.75, 1.25)  # noqa: S311 (they do not all come back at once)
        metrics.IMAGES_POSTPONED.inc(await self._postponed.put_off([image["_id"] for image in withheld], seconds))
        for image in withheld:
            self._away.setdefault(image["host"], deque(maxlen=_REMEMBERED)).append(image)

    async def _bring_back(self, claim: Claim, working: Counter[str]) -> bool:
        seen = {image["host"] for image in claim.withheld}
        wanted: list[Document] = []
        for host in [host for host in self._away if host not in seen and working[host] < self._each]:
            images = self._away[host]
            wanted += [images.popleft() for _ in range(min(len(images), _BROUGHT_BACK))]
            if not images:
                del self._away[host]
        if not wanted or not await self._postponed.bring_back([image["_id"] for image in wanted]):
            return False
        self._on_return(min(image["rank"] for image in wanted))
        return True

    def _by_host(self, working: Iterable[HeldImage]) -> Counter[str]:
        held = set(working)
        self._left &= held
        return Counter(image.host for image in held - self._left)
