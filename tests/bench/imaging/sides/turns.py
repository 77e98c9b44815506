"""What every side does: it takes turns.

Nothing but the standard library is imported here, since the other side is meant to be as its users have it.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Asked = dict[str, Any]
Work = Callable[[bytes], bytes]


def take_turns(prepared: Callable[[Asked], Work]) -> None:
    """Answers each order on standard input: a folder, what is asked of its images, and how often.

    `prepared` makes of what is asked what compresses an image by it; that is no part of an image's time, since a
    request's options are read once.
    """
    for line in sys.stdin:
        folder, asked, times = json.loads(line)
        work = prepared(asked)
        files = [path.read_bytes() for path in sorted(Path(folder).iterdir())] * times
        made = 0
        began = time.process_time()
        for data in files:
            made += len(work(data))
        print((time.process_time() - began) / len(files), made // times, flush=True)
