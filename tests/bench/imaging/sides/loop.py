"""A bare loop: what the machine's cores give at the moment. It tells seconds by the clock."""

import sys
import time

if __name__ == "__main__":
    for _ in sys.stdin:
        began = time.perf_counter()
        for _ in range(10_000_000):
            pass
        print(time.perf_counter() - began, 0, flush=True)
