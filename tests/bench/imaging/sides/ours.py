"""Our side: `compress`, with all its checks, in a process that is as a worker is."""

from libs.imaging import Options, worker
from tests.bench.imaging.sides.turns import Asked, Work, take_turns


def prepared(asked: Asked) -> Work:
    """`compress` by these options."""
    from libs.imaging import compress  # noqa: PLC0415 - only after `worker.load`

    options = Options(max_pixels=10**9, **asked)
    return lambda data: compress(data, options).data


if __name__ == "__main__":
    worker.load("libs.imaging.compression")
    take_turns(prepared)
