"""The watcher's settings."""

from libs.runtime.settings import CommonSettings, CompressionSettings, EgressSettings, StorageSettings


class WatcherSettings(CommonSettings, StorageSettings, EgressSettings, CompressionSettings):
    """What the watcher reads from the environment or `.env`."""
