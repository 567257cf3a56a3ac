"""One renderer for every log line of the process: ours (structlog) and the libraries' (stdlib logging, kopf).

JSON lines, or a console form for people. Nothing that looks like a credential leaves: values under telling names
are replaced, and bearer tokens, JSON web tokens and private keys are cut out of every text.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED: Final = "[redacted]"
MAX_TEXT: Final = 4096  # characters of one value; an API server may answer with pages

_SECRET_NAME = re.compile(
    r"(^|[-_.])(token|password|passwd|secret|kubeconfig|authorization|cookie|credentials?|private[-_]?key|"
    r"client[-_]?(key|certificate)([-_]data)?|bearer|body|data|stringdata)$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"(?P<bearer>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,2}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?P<name>\b(?:token|password|client-key-data|client-certificate-data)[\"']?\s*[:=]\s*[\"']?)[^\s\"',}]{4,}",
    re.IGNORECASE | re.DOTALL,
)
# Fields of a stdlib LogRecord that are not context somebody added.
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def redact(text: str) -> str:
    """The text without credentials, at most `MAX_TEXT` characters."""
    shown = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text)} characters)"
    return _SECRET_TEXT.sub(lambda m: f"{m['bearer'] or m['name'] or ''}{REDACTED}", shown)


def _redact_value(name: str, value: Any, depth: int = 0) -> Any:
    if _SECRET_NAME.search(name) and value not in (None, "", True, False):
        return REDACTED
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bool | int | float) or value is None:
        return value
    if depth < 4 and isinstance(value, Mapping):
        return {str(key): _redact_value(str(key), item, depth + 1) for key, item in value.items()}
    if depth < 4 and isinstance(value, list | tuple | set | frozenset):
        return [_redact_value(name, item, depth + 1) for item in value]
    return redact(str(value))


def redact_secrets(_: WrappedLogger, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog processor: see `redact`; runs last before rendering, so that tracebacks are covered."""
    return {name: _redact_value(name, value) for name, value in event.items()}


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # half a surrogate pair, or a number beyond 64 bits: a line to log is no reason to fail
        return json.dumps(event, default=str)


class _StreamLogger:
    """Writes finished lines; a closed or full stream never stops the process (F22)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


class _StdlibBridge(logging.Handler):
    """Hands a library's record to the same processors."""

    def __init__(self, processors: list[Processor], output: _StreamLogger) -> None:
        super().__init__()
        self._processors = processors
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        event: Any = {key: value for key, value in vars(record).items() if key not in _RECORD_FIELDS}
        event = {key: value for key, value in event.items() if key not in {"k8s_ref", "k8s_skip", "settings"}}
        try:
            event |= {"event": record.getMessage(), "logger": record.name, "level": record.levelname.lower()}
            if record.exc_info:
                event["exc_info"] = record.exc_info
            for processor in self._processors:
                event = processor(None, event["level"] if isinstance(event, dict) else "info", event)
            self._output.msg(event)
        except Exception:  # as every logging.Handler: logging never raises
            self.handleError(record)


def configure_logs(
    *, level: str = "info", form: Literal["auto", "json", "console"] = "auto", stream: TextIO | None = None
) -> None:
    """Set up the process's logging. Called once at start; later calls replace the earlier set-up.

    Args:
        level: least severe level that is written; libraries say nothing below `warning` except at `debug`.
        form: `auto` is console on a terminal and JSON elsewhere.
        stream: where lines go; default standard error.
    """
    stream = sys.stderr if stream is None else stream
    number = logging.getLevelNamesMapping()[level.upper()]
    console = form == "console" or (form == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact_secrets,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if console
        else _render_json
    )
    output = _StreamLogger(stream)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: output,
        cache_logger_on_first_use=False,
    )
    library_level = number if number <= logging.DEBUG else max(number, logging.WARNING)
    logging.basicConfig(handlers=[_StdlibBridge([*shared, renderer], output)], level=library_level, force=True)
    logging.captureWarnings(True)
    # Its debug lines hold whole objects, Secrets included.
    logging.getLogger("kopf").setLevel(max(library_level, logging.INFO))
    logging.getLogger("asyncio").setLevel(max(library_level, logging.INFO))
