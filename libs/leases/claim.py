"""What a claim gives, and what of one that erred is yet to be found out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from libs.mongo import Document


@dataclass(frozen=True, slots=True)
class Claim:
    """Documents held under one token, in claim order.

    `alone`: the one in it is to run with nothing beside it. Alone and empty, and not outrun: such a one is next; claim
    again when nothing is held. `first` is where in the order the first document stood that could be claimed; None:
    there was none, or the claim looked behind it. `outrun`: there were some, but others took them all; claim again at
    once. `withheld` were passed over in the order, since they have their share. `exhausted`: it has looked for more
    than there were. `along`: the update that was to go along was done, to as many documents as it is about.
    """

    token: str
    documents: Sequence[Document]
    alone: bool = False
    first: float | None = None
    outrun: bool = False
    withheld: Sequence[Document] = ()
    exhausted: bool = False
    along: bool = False


@dataclass(frozen=True, slots=True)
class Unsure:
    """A claim that was sent and of which it is not known what came."""

    token: str
    ids: Sequence[Any]
    alone: bool
    first: float | None
