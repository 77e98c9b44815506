"""Runs one watcher: `python -m services.watcher`."""

import sys

from libs.runtime.lifecycle import run
from services.watcher.app import serve
from services.watcher.settings import WatcherSettings

if __name__ == "__main__":
    sys.exit(run("watcher", WatcherSettings, serve))
