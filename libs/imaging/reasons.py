"""Why an image could not be compressed."""

from typing import Literal

Code = Literal[
    "empty",  # no bytes at all
    "not_an_image",  # HTML, ZIP, text, video, …
    "unsupported_format",  # a picture or document, but none that is decoded here
    "corrupt",
    "truncated",
    "too_many_pixels",
    "too_complex",  # ran out of time, CPU or memory, or certainly would
    "worker_crashed",
]


class ImageError(Exception):
    """An image cannot be compressed.

    `code` is stable, `detail` is for people, and `retryable` says whether another try may help.
    """

    def __init__(self, code: Code, detail: str, *, retryable: bool = False) -> None:
        super().__init__(code, detail)
        self.code: Code = code
        self.detail = detail
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"
