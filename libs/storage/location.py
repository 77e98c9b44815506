"""What `DARKROOM_STORAGE` means."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from libs.storage.local import LocalStorage


def open_storage(url: str) -> LocalStorage:
    """The store that `url` names. Nothing is touched before `prepare`.

    Raises:
        ValueError: it is not of the form file:///absolute/path.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    is_local = parts.scheme == "file" and parts.netloc in {"", "localhost"} and not parts.query and not parts.fragment
    if not is_local or not path.startswith("/") or "\0" in path:
        raise ValueError(f"the storage must be file:///absolute/path, not {url!r}")
    return LocalStorage(Path(path))
