"""Structured logs: short constant events, values as keys, one line each on standard output."""

import logging
import sys
from io import TextIOWrapper
from typing import TextIO

import structlog

from libs.runtime.settings import CommonSettings


def configure_logging(service: str, settings: CommonSettings, *, stream: TextIO = sys.stdout) -> None:
    """Sends structlog's events, and the warnings of libraries that use `logging`, to `stream`.

    Every line carries `service` and whatever is bound with `structlog.contextvars`, such as `request_id`. What the
    stream cannot encode, such as the bytes of a header that are no UTF-8, is written as a backslash escape.
    """
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Writes a line with its end in one call: several processes may share the stream, as under `darkroom up`.
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
