"""Log lines on standard error: JSON, or text on a terminal.

All packages use the standard library's loggers, with facts in `extra`; so do librdkafka and other libraries. One formatter renders all
lines, and hides secrets in them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, MutableMapping
from typing import Any

import structlog
from structlog.types import Processor

from detector.config.secrets import redactor

LOUD = (
    "numba",
    "asyncio",
    "matplotlib",
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "urllib3",
)  # their lines below warning would outnumber all others
SIGNERS = ("botocore", "boto3")  # their lines contain signatures


def configure(level: str, format: str, secrets: Collection[str] = ()) -> None:
    """Send every logger's lines to standard error.

    level    debug | info | warning | error
    format   json | console | auto (console on a terminal, JSON elsewhere)
    secrets  values that are hidden wherever they appear in a line
    """
    console = format == "console" or (format == "auto" and sys.stderr.isatty())
    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    if console:
        after: list[Processor] = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), timestamp_key="time")]
    else:
        after = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *after, _hide(secrets)]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in (*LOUD, *SIGNERS):
        logging.getLogger(name).setLevel(logging.WARNING)


def log_client_line(level: str, line: str) -> None:
    """Takes librdkafka's own lines (`adapters.kafka.client.LogCallback`)."""
    logging.getLogger("librdkafka").log(getattr(logging, level.upper(), logging.ERROR), "%s", line)


def _hide(secrets: Collection[str]) -> Processor:
    """A last step that works on the rendered line."""
    hide = redactor(secrets)

    def hide_in(logger: Any, name: str, rendered: MutableMapping[str, Any] | str) -> Any:
        return hide(str(rendered))

    return hide_in
