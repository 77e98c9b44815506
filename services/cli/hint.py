"""Commands that a message suggests."""

import shlex


def hint(*arguments: str, url: str | None) -> str:
    """A `darkroom` command as a shell takes it, which speaks to the same Darkroom: with `--url` if `url` was given."""
    return shlex.join(["darkroom", *arguments, *(("--url", url) if url else ())])
