"""How an image is refused."""

import pytest

from libs.imaging import ImageError, Options, compress


def code_of(data: bytes, options: Options | None = None) -> str:
    """The reason why `data` cannot be compressed."""
    with pytest.raises(ImageError) as caught:
        compress(data, options or Options())
    assert not caught.value.retryable
    return caught.value.code
