"""The `_id` of an image: its request and its position in it, so that a request's images lie in order by `_id`."""

from libs.mongo import Document


def image_id(request_id: str, position: int) -> Document:
    """The `_id` of one image."""
    return {"r": request_id, "n": position}


def between(request_id: str, first: int, end: int) -> Document:
    """The condition for a request's images from position `first` up to, but not including, `end`."""
    return {"_id": {"$gte": image_id(request_id, first), "$lt": image_id(request_id, end)}}
