"""Job: what kube-apiserver lets a job controller write, and in which order.

Every rule of the merge was a 422 when it was broken: `startTime` stays, `succeeded` and `failed`
never fall, `ready` is at most `active`, nothing is active in a finished Job, a finished one keeps
its end, and `SuccessCriteriaMet` or `FailureTarget` comes together with the end that it announces
(written alone it makes the other end impossible).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from status.conditions import TRUE, Finding, judgements, write_condition
from status.kinds.base import HEALTHY, KindRules, Verdict, View
from status.report import Health
from status.values import count, objects, text, time_text, times

_END_TYPES = frozenset({"Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"})


def _is_true(status: Mapping[str, Any], kind: str) -> bool:
    judgement = judgements(status).get(kind)
    return judgement is not None and judgement.status == TRUE


class JobRules(KindRules):
    counters = ("active", "succeeded", "failed", "ready", "terminating")
    fields = frozenset({*counters, "startTime", "completionTime", "conditions"})
    generational = False
    keeps_end = True
    touched = "lastProbeTime"

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        given = judgements(status)
        for kind in ("Failed", "FailureTarget"):
            if kind in given and given[kind].status == TRUE:
                return Verdict(Health.DEGRADED, given[kind].reason or kind, given[kind].message)
        if _is_true(status, "Complete"):
            return HEALTHY
        if _is_true(status, "Suspended"):
            return Verdict(Health.SUSPENDED, "JobSuspended", "the Job is suspended")
        done = f"{count(status, 'active')} active, {count(status, 'succeeded')} succeeded"
        return Verdict(Health.PROGRESSING, "Running", f"{done}, {count(status, 'failed')} failed")

    def terminal(self, status: Mapping[str, Any]) -> bool:
        return _is_true(status, "Complete") or _is_true(status, "Failed")

    def frozen(self, previous: Mapping[str, Any]) -> bool:
        return self.terminal(previous)

    def merge(self, view: View) -> dict[str, Any] | None:
        if not view.targets:
            return None
        merged: dict[str, Any] = dict(view.totals)
        for name in ("succeeded", "failed"):
            merged[name] = max(merged[name], count(view.previous, name))
        merged["ready"] = min(merged["ready"], merged["active"])
        started = times((report.status.get("startTime") for report in view.reports), view.now)
        start = text(view.previous, "startTime") or (started[0] if started else "")
        if start:
            merged["startTime"] = start
        conditions = [item for item in view.conditions if item["type"] not in _END_TYPES]
        announced = [item for item in objects(view.previous, "conditions") if item.get("type") in _END_TYPES]
        end = self._end(view, merged)
        if end is None:
            conditions += announced  # cannot be taken back
        else:
            merged |= {"active": 0, "ready": 0, "terminating": 0, "startTime": start or time_text(view.now)}
            conditions += self._end_conditions(view, end)
            if end == "Complete":
                ended = times((report.status.get("completionTime") for report in view.reports), view.now)
                merged["completionTime"] = max([*ended[-1:], merged["startTime"]])
        if conditions:
            merged["conditions"] = conditions
        return merged

    def _end(self, view: View, merged: Mapping[str, Any]) -> str | None:
        """`Complete` or `Failed` once every target has finished, None before or when the server would refuse it."""
        if not view.ended or merged["active"] or merged["terminating"]:
            return None
        failed = any(_is_true(report.status, "Failed") for report in view.reports)
        if _is_true(view.previous, "SuccessCriteriaMet") and failed:
            return None
        return "Failed" if failed or _is_true(view.previous, "FailureTarget") else "Complete"

    def _end_conditions(self, view: View, end: str) -> list[dict[str, Any]]:
        ended = [(report, judgements(report.status).get(end)) for report in view.reports]
        told = [(report.target, said) for report, said in ended if said is not None and said.status == TRUE]
        reason = told[0][1].reason if told else ""
        message = f"{told[0][0]}: {told[0][1].message}" if told and told[0][1].message else ""
        more = len(told) - 1
        if end == "Failed" and more > 0:
            message = f"{message} (and {more} more)"
        earlier = {item.get("type"): item for item in objects(view.previous, "conditions")}
        first = "SuccessCriteriaMet" if end == "Complete" else "FailureTarget"
        default = "CompletionsReached" if end == "Complete" else "JobFailed"
        return [
            write_condition(
                Finding(kind, TRUE, reason or default, message), earlier.get(kind), time_text(view.now), self.touched
            )
            for kind in (first, end)
        ]
