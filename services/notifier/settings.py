"""The notifier's settings, and the checks that let it refuse to start rather than send what cannot be verified."""

import math
from typing import Self

from pydantic import model_validator

from libs.runtime.settings import CommonSettings, EgressSettings, WebhookSettings
from libs.webhooks import parse_secret

_HOW_TO_MAKE_ONE = "make one by: echo whsec_$(openssl rand -base64 32)"


class NotifierSettings(CommonSettings, EgressSettings, WebhookSettings):
    """What the notifier reads from the environment or `.env`."""

    @property
    def signing_key(self) -> bytes:
        """The key behind `DARKROOM_WEBHOOK_SECRET`."""
        return parse_secret(self.webhook_secret.get_secret_value())

    @model_validator(mode="after")
    def _secret_signs(self) -> Self:
        if not self.webhook_secret.get_secret_value():
            raise ValueError(
                f"DARKROOM_WEBHOOK_SECRET: the notifier signs with it and it is not set; {_HOW_TO_MAKE_ONE}"
            )
        try:
            parse_secret(self.webhook_secret.get_secret_value())
        except ValueError as error:
            raise ValueError(f"DARKROOM_WEBHOOK_SECRET: {error}; {_HOW_TO_MAKE_ONE}") from error
        return self

    @model_validator(mode="after")
    def _pauses_are_durations(self) -> Self:
        if not all(math.isfinite(pause) and pause > 0 for pause in self.webhook_schedule):
            raise ValueError("DARKROOM_WEBHOOK_SCHEDULE: every pause must be a number of seconds above 0")
        return self
