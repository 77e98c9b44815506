"""What may begin with its announcement: as much as could be claimed, and nothing before what waits already."""

import pytest
from pymongo.errors import PyMongoError

from libs.documents import Delivery, Documents, NewDelivery
from libs.documents.delivery import delivery_of, document_of
from libs.leases import Holdings
from libs.runtime.health import Health
from libs.runtime.lifecycle import Stop
from services.notifier.breaker import Breaker
from services.notifier.credit import Credit
from services.notifier.room import Beginning, Room

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
FEW, SLOTS = 2, 5


class Rooms:
    """A room for five, two of each host, of a notifier that holds nothing; `now` is its time."""

    def __init__(self, documents: Documents) -> None:
        self.now = 1000.0
        self.breaker = Breaker(clock=lambda: self.now)
        holdings: Holdings[Delivery] = Holdings(
            documents.deliveries.leases, SLOTS, stop=Stop(), health=Health(), shutdown_seconds=1
        )
        self.room = Room(holdings, self.breaker, Credit(FEW, FEW), clock=lambda: self.now)

    def look(self) -> None:
        """A claim finds nothing."""
        self.room.looking()
        self.room.looked(self.room.taken)

    def silence(self, host: str) -> None:
        """The host does not answer any more."""
        for _ in range(5):
            with self.breaker.passing(host) as attempt:
                attempt.ended("timeout")


@pytest.fixture
async def rooms(documents: Documents) -> Rooms:
    """An empty room, in which nobody has looked yet."""
    return Rooms(documents)


def to(*hosts: str) -> list[NewDelivery]:
    """A new delivery to each."""
    return [
        NewDelivery(str(n), "request.completed", f"http://{host}/", "{}", TRACE, float(n))
        for n, host in enumerate(hosts)
    ]


def begun(room: Room, new: list[NewDelivery]) -> list[int]:
    """Which of them may begin; they are announced as that."""
    with room.kept(new) as beginning:
        announce(beginning, new)
        return [number for number, one in enumerate(new) if one.webhook_id in beginning.webhook_ids]


def announce(beginning: Beginning, new: list[NewDelivery]) -> None:
    """All that may begin is held."""
    beginning.held = [delivery_of(document_of(one)) for one in new if one.webhook_id in beginning.webhook_ids]


async def test_nothing_begins_before_a_claim_has_found_nothing(rooms: Rooms) -> None:
    """Older deliveries may be waiting."""
    assert begun(rooms.room, to("a")) == []
    rooms.look()
    assert begun(rooms.room, to("a")) == [0]
    rooms.room.looking()
    assert begun(rooms.room, to("a")) == []


async def test_no_more_begin_than_a_host_and_all_hosts_may_have(rooms: Rooms) -> None:
    """Two of each host, five together, and in their order."""
    rooms.look()
    assert begun(rooms.room, to("a", "a", "a", "b", "c", "c", "d")) == [0, 1, 3, 4, 5]


async def test_what_is_kept_is_nobody_elses(rooms: Rooms) -> None:
    """While it is being announced it counts as taken, for claims too, and no longer."""
    rooms.look()
    new = to("a", "a", "b")
    with rooms.room.kept(new) as beginning:
        announce(beginning, new)
        assert (rooms.room.free, rooms.room.taken) == (2, {"a": 2, "b": 1})
        assert begun(rooms.room, to("b")) == [0]
    assert (rooms.room.free, rooms.room.taken) == (5, {})


async def test_what_was_left_is_claimed_before_others_begin(rooms: Rooms) -> None:
    """A claim that began before it was there has not looked for it."""
    rooms.look()
    assert begun(rooms.room, to("a", "a", "c", "c", "d", "b")) == [0, 1, 2, 3, 4]
    assert begun(rooms.room, to("b")) == []
    rooms.room.looking()
    assert begun(rooms.room, to("b")) == []
    rooms.room.looked(rooms.room.taken)
    assert begun(rooms.room, to("c")) == []
    rooms.look()
    assert begun(rooms.room, to("c")) == [0]


async def test_what_a_host_has_beyond_its_share_keeps_others_from_nothing(rooms: Rooms) -> None:
    """Of that host none begins until a claim has looked for what was left, and one that was under way has not."""
    rooms.look()
    new = to("a", "a")
    with rooms.room.kept(new) as beginning:
        announce(beginning, new)
        rooms.room.looking()
        assert begun(rooms.room, to("a")) == []
        rooms.room.looked({})
    assert begun(rooms.room, to("a", "b")) == [1]
    rooms.look()
    assert begun(rooms.room, to("a", "a", "a", "b")) == [0, 1, 3]
    assert rooms.room.idle_seconds == 0
    assert begun(rooms.room, to("a", "b")) == [1]
    rooms.look()
    assert begun(rooms.room, to("a", "b")) == [0, 1]


async def test_an_announcement_that_raises_gives_its_room_back(rooms: Rooms) -> None:
    """What it may have made all the same, or is made behind it, is to be looked for."""
    rooms.look()
    with pytest.raises(PyMongoError), rooms.room.kept(to("a", "a", "b")):
        raise PyMongoError("not known")
    assert (rooms.room.free, rooms.room.taken) == (5, {})
    assert begun(rooms.room, to("c")) == []
    rooms.look()
    assert begun(rooms.room, to("a", "a", "b")) == [0, 1, 2]


async def test_what_was_to_begin_and_is_not_held_is_looked_for(rooms: Rooms) -> None:
    """Another has announced it, or it was announced in pieces."""
    rooms.look()
    with rooms.room.kept(to("a")):
        pass
    assert begun(rooms.room, to("b")) == []


async def test_what_has_become_due_is_claimed_before_others_begin(rooms: Rooms) -> None:
    """It is older than what is announced."""
    rooms.look()
    rooms.room.left_some()
    assert begun(rooms.room, to("a")) == []
    rooms.room.looking()
    rooms.room.left_some()
    rooms.room.looked(rooms.room.taken)
    assert begun(rooms.room, to("a")) == []


async def test_a_host_for_which_others_wait_begins_nothing_and_the_others_do(rooms: Rooms) -> None:
    """What waits for a host that had its share at the last look is older."""
    rooms.look()
    new = to("a", "a")
    with rooms.room.kept(new) as beginning:
        announce(beginning, new)
        rooms.look()
    assert begun(rooms.room, to("a", "b")) == [1]


async def test_a_host_that_does_not_answer_begins_nothing(rooms: Rooms) -> None:
    """As with claims; afterwards it may have one, to find out."""
    rooms.silence("a")
    rooms.look()
    assert begun(rooms.room, to("a", "b")) == [1]
    rooms.now += 10
    rooms.look()
    assert begun(rooms.room, to("a", "a", "b")) == [0, 2]
    rooms.look()
    with rooms.room.kept(to("a")):
        assert rooms.room.taken == {"a": FEW}


async def test_a_room_is_idle_for_a_moment_behind_a_look_in_vain(rooms: Rooms) -> None:
    """Others may have left something since, and so may hosts that have room again."""
    assert rooms.room.idle_seconds == 0
    rooms.look()
    assert rooms.room.idle_seconds == pytest.approx(0.1)
    rooms.now += 0.0625
    assert rooms.room.idle_seconds == pytest.approx(0.0375)
    rooms.now += 0.0625
    assert rooms.room.idle_seconds == 0
    new = to("a", "a")
    with rooms.room.kept(new) as beginning:
        announce(beginning, new)
        rooms.look()
        assert rooms.room.idle_seconds == pytest.approx(0.1)
    assert rooms.room.idle_seconds == 0
