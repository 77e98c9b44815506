"""The ingest service's settings."""

from libs.runtime.settings import CommonSettings, EgressSettings, StorageSettings, SubscriptionSettings, UploadSettings


class IngestSettings(CommonSettings, StorageSettings, EgressSettings, UploadSettings, SubscriptionSettings):
    """What ingest reads from the environment or `.env`."""
