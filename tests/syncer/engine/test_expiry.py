"""When a finished Job may be removed. Pure."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.engine.expiry import expires_at

ENDED = "2026-01-02T03:04:05Z"
END = 1767323045.0


def job(ttl: Any, *conditions: dict[str, str]) -> dict[str, Any]:
    spec = {} if ttl is None else {"ttlSecondsAfterFinished": ttl}
    return {"spec": spec, "status": {"conditions": list(conditions)}}


def condition(kind: str, status: str = "True", at: str = ENDED) -> dict[str, str]:
    return {"type": kind, "status": status, "lastTransitionTime": at}


@pytest.mark.parametrize("end", ["Complete", "Failed"])
def test_a_finished_job_expires_after_its_time(end: str) -> None:
    """F63: the time counts from the condition that ended it."""
    assert expires_at(job(10, condition("Suspended", "False"), condition(end))) == END + 10
    assert expires_at(job(0, condition(end))) == END


@pytest.mark.parametrize(
    "manifest",
    [
        job(None, condition("Complete")),
        job(10),
        job(10, condition("Complete", "False")),
        job(10, condition("SuccessCriteriaMet")),
        job(10, condition("FailureTarget")),
        job(10, condition("Complete", at="")),
        {"spec": {"ttlSecondsAfterFinished": 10}},
    ],
)
def test_what_runs_or_has_no_time_stays(manifest: dict[str, Any]) -> None:
    """F63."""
    assert expires_at(manifest) is None
