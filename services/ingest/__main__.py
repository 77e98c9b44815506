"""Runs one ingest service: `python -m services.ingest`."""

import sys

from libs.runtime.lifecycle import run
from services.ingest.app import serve
from services.ingest.settings import IngestSettings

if __name__ == "__main__":
    sys.exit(run("ingest", IngestSettings, serve))
