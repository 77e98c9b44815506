"""The ingest service's settings."""

from libs.runtime.settings import CommonSettings, EgressSettings, StorageSettings, UploadSettings


class IngestSettings(CommonSettings, StorageSettings, EgressSettings, UploadSettings):
    """What ingest reads from the environment or `.env`."""
