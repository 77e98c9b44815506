"""Runs one notifier: `python -m services.notifier`."""

import gc
import sys

from libs.runtime.lifecycle import run
from services.notifier.app import serve
from services.notifier.settings import NotifierSettings

# With Python's 700, what belongs to some hundred attempts under way is looked through again and again for garbage.
_YOUNG_OBJECTS = 5_000

if __name__ == "__main__":
    gc.freeze()  # what was imported is none
    gc.set_threshold(_YOUNG_OBJECTS)
    sys.exit(run("notifier", NotifierSettings, serve))
