"""Reads a CSV as ingest does, for the tests of its parser."""

from dataclasses import dataclass, field

from libs.egress import EgressPolicy
from services.ingest.catalogue import Catalogue, CellProblem, InvalidCatalogueError
from services.ingest.spool import Spool

HEADER = "S. No.,Product Name,Input Image Urls\n"


@dataclass
class ReadRow:
    """A row as it came out of the spool."""

    serial_number: int
    product_name: str
    urls: list[str] = field(default_factory=list)


def rows_of(data: str | bytes, *, chunk: int = 1 << 18, max_images: int = 1_000_000) -> list[ReadRow]:
    """The rows of an accepted CSV that arrives in chunks of `chunk` bytes."""
    rows: dict[int, ReadRow] = {}
    with Spool() as spool:
        read(Catalogue(EgressPolicy(), spool, max_images=max_images), data, chunk)
        images = [image for batch in spool.batches() for image in batch]
    assert [image.position for image in images] == list(range(len(images)))
    for image in images:
        rows.setdefault(image.row, ReadRow(image.serial_number, image.product_name)).urls.append(image.url)
    assert list(rows) == list(range(len(rows)))
    return list(rows.values())


def read(catalogue: Catalogue, data: str | bytes, chunk: int = 1 << 18) -> None:
    """Has `catalogue` read `data` to its end."""
    raw = data.encode() if isinstance(data, str) else data
    catalogue.read(raw[start : start + chunk] for start in range(0, len(raw), chunk))


def refusal_of(data: str | bytes, *, chunk: int = 1 << 18) -> InvalidCatalogueError:
    """Why a CSV is refused."""
    with Spool() as spool:
        try:
            read(Catalogue(EgressPolicy(), spool, max_images=1_000_000), data, chunk)
        except InvalidCatalogueError as error:
            return error
    raise AssertionError("the CSV was accepted")


def only_problem(data: str | bytes, *, chunk: int = 1 << 18) -> CellProblem:
    """The one problem of a CSV that has one."""
    [problem] = refusal_of(data, chunk=chunk).problems
    return problem
