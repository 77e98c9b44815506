"""Where outputs are kept: named by their content, written whole or not at all."""

from libs.storage.local import LocalStorage, StorageError
from libs.storage.location import open_storage

__all__ = ["LocalStorage", "StorageError", "open_storage"]
