"""Settings, read from the environment or a `.env` file.

Every key of every service stands here, grouped by what it governs, so that one `.env` can serve all services and a
misspelt `DARKROOM_` name can be told from another service's key. Each service's `settings.py` combines the groups it
needs and adds the checks between them.
"""

import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "DARKROOM_"
SettingsT = TypeVar("SettingsT", bound="CommonSettings")


class InvalidSettingsError(Exception):
    """A setting has a value the service cannot run with; the message names it and says what is accepted."""


class _Group(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        frozen=True,
    )


class CommonSettings(_Group):
    """What every service reads."""

    mongo_connection_string: str = Field(
        default="mongodb://127.0.0.1:27017/?replicaSet=rs0",
        validation_alias=AliasChoices("MONGO_CONNECTION_STRING"),
        description="MongoDB to use: a replica set or a sharded cluster (a standalone has no change streams).",
    )
    database_name: str = Field(
        default="darkroom",
        validation_alias=AliasChoices("DATABASE_NAME"),
        min_length=1,
        max_length=63,
        description="The database. One database is one Darkroom; its other collections have fixed names.",
    )
    collection_name: str = Field(
        default="requests",
        validation_alias=AliasChoices("COLLECTION_NAME"),
        min_length=1,
        description="The collection that holds the requests.",
    )
    host: str = Field(default="127.0.0.1", description="Address that the service listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port of ingest; 0 takes any free one.")
    public_url: str = Field(
        default="",
        description="What output URLs start with. Empty: http:// with DARKROOM_HOST and DARKROOM_PORT.",
    )
    lease_seconds: float = Field(
        default=15.0,
        ge=3.0,
        description="How long claimed work stays its holder's without a renewal. Renewed at a third of it.",
    )
    operation_seconds: float = Field(
        default=4.0,
        gt=0,
        description="Time limit of one MongoDB operation; under a third of DARKROOM_LEASE_SECONDS.",
    )
    sweep_seconds: float = Field(
        default=5.0,
        gt=0,
        description="An idle replica looks for work this often even when no change event wakes it (with jitter).",
    )
    stream_readers: int = Field(
        default=4,
        ge=0,
        description="Idle replicas of a service that read a change stream at once; others look for work every second.",
    )
    shutdown_seconds: float = Field(
        default=20.0,
        gt=0,
        description="After SIGTERM: time to finish what is running before it is given back and the service exits.",
    )
    log_format: Literal["json", "console"] = Field(default="json", description="Log lines for machines or for people.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )

    @field_validator("public_url")
    @classmethod
    def _public_url_is_http(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _three_renewals_fit_into_a_lease(self) -> Self:
        if self.operation_seconds * 3 >= self.lease_seconds:
            raise ValueError(
                "DARKROOM_OPERATION_SECONDS must be under a third of DARKROOM_LEASE_SECONDS, "
                "or a lease could end before its third renewal was tried"
            )
        return self

    def local_url(self, port: int) -> str:
        """Where a service that listens on `port` is reached from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 (compared, not bound)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def base_url(self, port: int | None = None) -> str:
        """What output URLs start with, without a slash at the end; `port` is the bound one where the setting is 0."""
        return self.public_url or self.local_url(port or self.port)


class StorageSettings(_Group):
    """Where compressed images are kept."""

    storage: str = Field(
        default="file:///var/lib/darkroom/images",
        description="The blob store: file:///absolute/path, shared by watchers (write) and ingest (serve).",
    )


class EgressSettings(_Group):
    """What outbound requests, for images and for webhooks, may reach."""

    egress_allow: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="Comma-separated CIDRs that may be reached although they are private, e.g. 10.1.0.0/16.",
    )

    # Groups are combined by inheritance, so a validator's name must not stand in two of them.
    @field_validator("egress_allow", mode="before")
    @classmethod
    def _split_networks(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
        return value


class UploadSettings(_Group):
    """Limits of one upload (ingest)."""

    max_upload_bytes: int = Field(
        default=512 * 2**20, gt=0, description="Largest CSV accepted; 413 as soon as it is passed."
    )
    max_images: int = Field(
        default=2_000_000, gt=0, description="Most image URLs in one CSV; 413 as soon as it is passed."
    )
    uploads: int = Field(
        default=8, ge=1, le=256, description="Uploads that one ingest reads at once; more get 503 and try again."
    )
    upload_seconds: float = Field(
        default=3600.0, gt=0, description="Longest time one upload's body may take to arrive."
    )
    upload_stall_seconds: float = Field(
        default=30.0, gt=0, description="An upload that sends nothing this long is refused."
    )


class SubscriptionSettings(_Group):
    """Standing webhook endpoints (ingest)."""

    webhook_overlap_seconds: float = Field(
        default=86_400.0,
        ge=0,
        le=30 * 86_400,
        description="After a rotation an endpoint's earlier secrets sign beside the new one for so long.",
    )


class CompressionSettings(_Group):
    """Downloading and compressing (watcher)."""

    watcher_port: int = Field(
        default=8001, ge=0, le=65535, description="Port of the watcher's health and metrics; 0: any free one."
    )
    workers: int = Field(
        default_factory=lambda: (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        ),
        ge=1,
        description="Codec processes of one watcher. Default: the cores.",
    )
    in_flight: int = Field(
        default=32, ge=1, le=1024, description="Images that one watcher downloads, compresses and stores at once."
    )
    host_in_flight: int = Field(
        default=8,
        ge=1,
        description="Of these, downloads from one host at once, so that a slow one leaves room for others.",
    )
    download_seconds: float = Field(default=60.0, gt=0, description="Total time for one download, redirects included.")
    max_download_bytes: int = Field(default=64 * 2**20, gt=0, description="Largest source image.")
    download_memory_bytes: int = Field(
        default=256 * 2**20,
        gt=0,
        description="Memory of all sources in one watcher, from their download until they are compressed, but for one.",
    )
    max_pixels: int = Field(default=50_000_000, gt=0, description="Largest source image in pixels, width times height.")
    worker_memory_bytes: int = Field(default=2 * 2**30, gt=0, description="Address-space limit of one codec process.")
    worker_seconds: float = Field(
        default=60.0, gt=0, description="CPU time that compressing one image may take; by the clock four times as much."
    )
    # A JPEG of fifty megapixels that becomes another takes that much (`libs.imaging.cost`).
    codec_memory_bytes: int = Field(
        default_factory=lambda settings: settings["workers"] * 2**30,
        gt=0,
        description="Memory of all images in one watcher's codec processes. Default: 1 GiB for each process.",
    )
    max_attempts: int = Field(default=5, ge=1, description="Tries per image before it fails for good.")
    retry_seconds: float = Field(
        default=2.0, gt=0, description="First pause before an image is tried again; doubles, with jitter."
    )
    retry_cap_seconds: float = Field(default=300.0, gt=0, description="Longest pause between two tries of an image.")


class WebhookSettings(_Group):
    """Calling webhooks (notifier)."""

    notifier_port: int = Field(
        default=8002, ge=0, le=65535, description="Port of the notifier's health and metrics; 0: any free one."
    )
    webhook_secret: SecretStr = Field(
        default=SecretStr(""), description="Signing secret, whsec_ and base64. Required by the notifier."
    )
    webhook_seconds: float = Field(default=15.0, gt=0, description="Total time for one delivery attempt.")
    webhook_in_flight: int = Field(
        default=256, ge=1, le=1024, description="Delivery attempts that one notifier makes at once."
    )
    webhook_schedule: Annotated[tuple[float, ...], NoDecode] = Field(
        default=(5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
        description="Comma-separated pauses in seconds before the second, third, … attempt; jitter is added.",
    )
    webhook_failing_seconds: float = Field(
        default=432_000.0,
        gt=0,
        description="An endpoint that does nothing but fail for so long is disabled; its owner is warned half way.",
    )

    @field_validator("webhook_schedule", mode="before")
    @classmethod
    def _split_pauses(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(float(part) for part in value.split(",") if part.strip())
        return value


GROUPS: tuple[type[_Group], ...] = (
    CommonSettings,
    StorageSettings,
    EgressSettings,
    UploadSettings,
    SubscriptionSettings,
    CompressionSettings,
    WebhookSettings,
)


def environment_name(group: type[_Group], field: str) -> str:
    """The environment variable that sets `field` of `group`."""
    alias = group.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"{PREFIX}{field}".upper()


def known_names() -> frozenset[str]:
    """The environment variables that any service reads."""
    return frozenset(environment_name(group, field) for group in GROUPS for field in group.model_fields)


def unknown_names(env_file: Path = Path(".env")) -> list[str]:
    """`DARKROOM_` names in the environment or in `env_file` that no service reads: most likely misspelt."""
    given = {*os.environ, *(dotenv_values(env_file) if env_file.is_file() else ())}
    return sorted(name for name in given if name.upper().startswith(PREFIX) and name.upper() not in known_names())


def load(settings: type[SettingsT], **overrides: Any) -> SettingsT:
    """Reads `settings` from overrides, environment and `.env`, in this order.

    Raises:
        InvalidSettingsError: one sentence for each setting that is wrong, by its environment name.
    """
    try:
        return settings(**overrides)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False, include_input=False):
            if problem["type"] == "default_factory_not_called":  # for a setting that is wrong itself
                continue
            location = problem["loc"]
            field = str(location[0]) if location else ""
            name = environment_name(settings, field) if field in settings.model_fields else field
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{name}: {message}" if name else message)
        raise InvalidSettingsError("; ".join(problems)) from error
