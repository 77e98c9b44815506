"""What `darkroom up` reads: every setting of its services, so that a wrong one is told before anything starts."""

from libs.runtime.settings import (
    CommonSettings,
    CompressionSettings,
    EgressSettings,
    StorageSettings,
    UploadSettings,
    WebhookSettings,
)


class UpSettings(CommonSettings, StorageSettings, EgressSettings, UploadSettings, CompressionSettings, WebhookSettings):
    """The settings of the services that `up` starts."""

    def is_set(self, name: str) -> bool:
        """Whether the field is given in the environment or in `.env`, and not a default."""
        return name in self.model_fields_set
