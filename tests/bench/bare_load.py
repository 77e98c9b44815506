"""The bare loop that loads a catalogue: `csv` and `insert_many`, a thousand rows at a time, and nothing else.

`python -m tests.bench.bare_load URI FILE` loads the file once for each line, which names the database, by a majority
write for each thousand. Nothing is checked, no index kept but that of `_id`.
"""

import csv
import sys
import time
from itertools import islice
from pathlib import Path

from pymongo import MongoClient
from pymongo.collection import Collection

from tests.bench.children import say

_BATCH = 1_000


def _load(path: Path, collection: "Collection[dict[str, object]]") -> None:
    began, cpu_began, count = time.perf_counter(), time.process_time(), 0
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        while batch := list(islice(rows, _BATCH)):
            collection.insert_many(
                [
                    {"_id": count + at, "serial_number": int(serial), "product_name": name, "url": url}
                    for at, (serial, name, url) in enumerate(batch)
                ],
                ordered=False,
            )
            count += len(batch)
    say(rows=count, seconds=time.perf_counter() - began, cpu_seconds=time.process_time() - cpu_began)


if __name__ == "__main__":
    with MongoClient[dict[str, object]](sys.argv[1], w="majority") as client:
        for line in sys.stdin:
            _load(Path(sys.argv[2]), client[line.strip()]["images"])
