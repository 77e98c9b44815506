"""Runs one ingest service: `python -m services.ingest`."""

import gc
import sys

from libs.runtime.lifecycle import run
from services.ingest.app import serve
from services.ingest.settings import IngestSettings

# With Python's 700, the documents of a batch are looked through again and again for garbage.
_YOUNG_OBJECTS = 10_000

if __name__ == "__main__":
    gc.freeze()  # what was imported is none
    gc.set_threshold(_YOUNG_OBJECTS)
    sys.exit(run("ingest", IngestSettings, serve))
