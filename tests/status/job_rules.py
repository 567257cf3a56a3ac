"""What kube-apiserver 1.36 refuses of a Job's status (pkg/apis/batch/validation, not indexed, no successPolicy)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.status.builders import conditions


def _true(status: Mapping[str, Any], kind: str) -> bool:
    return conditions(status).get(kind, {}).get("status") == "True"


def refusals(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the rules that the update breaks."""
    complete, failed = _true(new, "Complete"), _true(new, "Failed")
    met, target = _true(new, "SuccessCriteriaMet"), _true(new, "FailureTarget")
    active, start, end = new.get("active", 0), new.get("startTime"), new.get("completionTime")
    finished = complete or failed
    broken = {
        "negative counter": any(new.get(k, 0) < 0 for k in ("active", "succeeded", "failed", "ready", "terminating")),
        "complete and failed": complete and failed,
        "complete and failure target": complete and target,
        "completionTime without complete": bool(end) and not complete,
        "complete without completionTime": complete and not end,
        "completed before start": bool(start and end) and str(end) < str(start),
        "failed without failure target": failed and not target,
        "complete without success criteria": complete and not met,
        "success criteria and failed": met and failed,
        "success criteria and failure target": met and target,
        "finished with active": finished and active > 0,
        "finished with terminating": finished and new.get("terminating", 0) > 0,
        "finished without start": finished and not start,
        "more ready than active": new.get("ready", 0) > active,
        "failed counter fell": new.get("failed", 0) < old.get("failed", 0),
        "succeeded counter fell": new.get("succeeded", 0) < old.get("succeeded", 0),
        "start moved": bool(old.get("startTime")) and old.get("startTime") != start,
        "completionTime moved": bool(end and old.get("completionTime")) and end != old.get("completionTime"),
        "success criteria after complete": _true(old, "Complete") and not _true(old, "SuccessCriteriaMet") and met,
        **{
            f"{kind} taken back": _true(old, kind) and not _true(new, kind)
            for kind in ("Failed", "Complete", "FailureTarget", "SuccessCriteriaMet")
        },
    }
    return [rule for rule, is_broken in broken.items() if is_broken]
