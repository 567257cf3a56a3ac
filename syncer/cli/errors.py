"""Errors as people see them: one line that names the cause, one line that says what to do, never a traceback."""

from __future__ import annotations

import os
import re
import sys
import traceback
from typing import Final

from syncer.api.hints import hint as reason_hint
from syncer.errors import SyncError, TerminalError

DEBUG_VARIABLE: Final = "SYNCLINE_DEBUG"  # "1": the traceback after the two lines, for reports
_SECRETS: Final = re.compile(
    r"(?i)bearer\s+\S+"  # an Authorization header
    r"|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"  # a JWT
    r"|-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|$)"  # PEM
    r"|[A-Za-z0-9+/]{120,}={0,2}",  # base64 of either
    re.DOTALL,
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


class CliError(SyncError):
    """A command failed; a person has to do something.

    Attributes:
        cause: one line, what is wrong.
        hint: one line, what to do about it.
        exit_code: 1 failed, 2 wrong use.
    """

    exit_code = 1

    def __init__(self, cause: str, hint: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint


class WrongUse(CliError):
    """The command line itself is wrong; nothing was asked or changed."""

    exit_code = 2


def program() -> str:
    """How the user called us: `kubectl syncline` as a kubectl plugin, else `syncline`."""
    name = os.path.basename(sys.argv[0])
    return "kubectl syncline" if name.startswith(("kubectl-", "kubectl_")) else "syncline"


def printable(text: str) -> str:
    """Text from a cluster, fit for a terminal: one line, no control characters, no credentials."""
    return _CONTROL.sub(" ", _SECRETS.sub("(hidden)", text)).strip()


def explain(error: BaseException) -> tuple[str, str, int]:
    """Cause, hint and exit code of anything that can reach the top of the program."""
    from syncer.kube.errors import ApiError

    cause, hint = getattr(error, "cause", None), getattr(error, "hint", None)
    if isinstance(cause, str) and isinstance(hint, str):
        return cause, hint, int(getattr(error, "exit_code", 1))
    if isinstance(error, ApiError):
        return str(error), api_hint(error), 1
    if isinstance(error, TerminalError):
        return str(error), reason_hint(error.reason) or "Correct what the message names and try again.", 1
    if isinstance(error, SyncError):
        return str(error), "Try again; if it lasts, look at the operator's log.", 1
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or type(error).__name__}", "Check the path and its permissions.", 1
    frame = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
    place = f" at {os.path.basename(frame.filename)}:{frame.lineno}" if frame else ""
    return (
        f"internal error: {type(error).__name__}{place}",
        f"This is a bug; run it again with {DEBUG_VARIABLE}=1 and report what it prints.",
        1,
    )


def api_hint(error: Exception, *, cluster: str = "the cluster") -> str:
    """What to do about a refusal of an API server or of the hub."""
    from syncer.kube import errors as kube

    match error:
        case kube.Unauthorized():
            return f"{cluster} does not accept this credential: log in again, or choose another --context."
        case kube.AdmissionDenied():
            return "Correct what the message names and try again."
        case kube.Forbidden():
            return "Ask an administrator for the named right; kubectl auth can-i --list shows yours."
        case kube.Unreachable():
            return f"Check that {cluster} runs and that --kubeconfig and --context name the right one."
        case kube.NotFound():
            return "Check name and namespace; the CRDs come with: syncline crds | kubectl apply --server-side -f -"
        case kube.TooManyRequests() | kube.ServerError():
            return f"{cluster} is busy or starting: try again in a moment."
        case TerminalError():
            return reason_hint(error.reason) or "Correct what the message names and try again."
        case _:
            return "Try again."


def complain(error: BaseException) -> int:
    """Print cause and hint on stderr and give the exit code."""
    cause, hint, code = explain(error)
    command = program()
    if command != "syncline":
        hint = re.sub(r"(?<!kubectl )\bsyncline (?=[a-z])", f"{command} ", hint)
    sys.stderr.write(f"error: {printable(cause)}\nhint: {printable(hint)}\n")
    if os.environ.get(DEBUG_VARIABLE) == "1" and not isinstance(error, CliError):
        sys.stderr.write(_SECRETS.sub("(hidden)", "".join(traceback.format_exception(error))))
    return code
