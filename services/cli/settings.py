"""What `darkroom up` reads: the settings that it has to divide, pass on or fill in for its services."""

from libs.runtime.settings import CommonSettings, CompressionSettings, StorageSettings, WebhookSettings


class UpSettings(CommonSettings, StorageSettings, CompressionSettings, WebhookSettings):
    """The settings of the services that `up` starts, as far as it looks at them."""

    def is_set(self, name: str) -> bool:
        """Whether the field is given in the environment or in `.env`, and not a default."""
        return name in self.model_fields_set
