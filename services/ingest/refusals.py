"""What the documentation says of problems that several operations have, by status."""

from collections.abc import Mapping

UNAVAILABLE: Mapping[int, str] = {503: "The database does not answer."}
JSON_BODY: Mapping[int, str] = {
    400: "The body is cut.",
    413: "The body is larger than a mebibyte.",
    415: "The body is not sent as JSON.",
    422: "The body is no JSON, or what it says is not valid.",
}


def of_one(what: str) -> Mapping[int, str]:
    """Of an operation on one `what`, which is named in the path."""
    return {404: f"There is no such {what}.", 422: "The id is malformed.", **UNAVAILABLE}
