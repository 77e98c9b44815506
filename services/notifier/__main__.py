"""Runs one notifier: `python -m services.notifier`."""

import sys

from libs.runtime.lifecycle import run
from services.notifier.app import serve
from services.notifier.settings import NotifierSettings

if __name__ == "__main__":
    sys.exit(run("notifier", NotifierSettings, serve))
