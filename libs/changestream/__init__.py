"""Change streams: read batch by batch, resumed while they live, and used only to wake a consumer that drains."""

from libs.changestream.consumer import Consumer, Drain, Wake
from libs.changestream.permits import Permits
from libs.changestream.stream import ChangeStream, Event, HistoryLostError

__all__ = ["ChangeStream", "Consumer", "Drain", "Event", "HistoryLostError", "Permits", "Wake"]
