"""Pillow again, in a process that keeps its memory as a worker does."""

from libs.imaging import worker
from tests.bench.imaging.sides.turns import take_turns

if __name__ == "__main__":
    worker.load("PIL.Image")
    from tests.bench.imaging.sides.plain import prepared

    take_turns(prepared)
