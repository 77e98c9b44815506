"""libjpeg-turbo alone: one strict decoding and one encoding of a JPEG, in a process that is as a worker is."""

from libs.imaging import worker
from tests.bench.imaging.sides.turns import Asked, Work, take_turns


def prepared(asked: Asked) -> Work:
    """The codec, of which nothing can be asked."""
    import simplejpeg  # type: ignore[import-untyped]  # noqa: PLC0415 - only after `worker.load`

    assert not asked

    def work(data: bytes) -> bytes:
        is_gray = simplejpeg.decode_jpeg_header(data)[2] == "Gray"
        space, subsampling = ("GRAY", "Gray") if is_gray else ("RGB", "420")
        samples = simplejpeg.decode_jpeg(data, space, fastupsample=True)
        made: bytes = simplejpeg.encode_jpeg(samples, 50, space, subsampling)
        return made

    return work


if __name__ == "__main__":
    worker.load("simplejpeg")
    take_turns(prepared)
