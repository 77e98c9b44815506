"""What the handlers of ingest share."""

from dataclasses import dataclass

from libs.documents import Documents
from libs.egress import EgressError, EgressPolicy
from libs.storage import LocalStorage
from services.ingest.problems import ProblemError
from services.ingest.settings import IngestSettings


@dataclass(slots=True)
class Context:
    """The parts that handlers work with. `database` is None until MongoDB has answered for the first time."""

    settings: IngestSettings
    policy: EgressPolicy
    storage: LocalStorage
    public_url: str = ""
    database: Documents | None = None

    @property
    def documents(self) -> Documents:
        """The documents, or the problem 503 while there are none."""
        if self.database is None:
            raise ProblemError(
                503,
                "database_unavailable",
                "the database has not answered yet; try again",
                headers={"Retry-After": "5"},
            )
        return self.database

    def check_webhook_url(self, url: str, *, field: str) -> None:
        """Refuses what no webhook may be sent to, as the problem 422 that names `field`."""
        try:
            self.policy.check_url(url)
        except EgressError as error:
            raise ProblemError(422, "invalid_webhook_url", f"{field}: {error.detail}") from error

    def output_url(self, name: str) -> str:
        """Where the output `name` is served."""
        return f"{self.public_url}/compressed_images/{name}"
