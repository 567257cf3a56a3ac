"""Pod: one target's status as it is, several by their worst phase; and why Pods do not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from status.conditions import FALSE, TRUE, judgements
from status.kinds.base import HEALTHY, KindRules, Verdict, View
from status.kinds.volume import worst_phase
from status.report import Health
from status.sanitize import clean_text
from status.values import count, mapping, objects, text, times

_CONTAINER_FIELDS: Final = frozenset(
    {"name", "state", "lastState", "ready", "restartCount", "image", "imageID", "containerID", "started"}
)
_CONTAINER_LISTS: Final = ("initContainerStatuses", "containerStatuses")

# Waiting reasons from the one that needs a person most to the ones that pass by themselves.
_WAITING: Final = (
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "ImagePullBackOff",
    "ErrImagePull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
    "Unschedulable",
)
_HARMLESS: Final = frozenset({"", "ContainerCreating", "PodInitializing"})
_OVER: Final = ("Succeeded", "Failed")


def waiting_reason(pods: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """The worst reason why Pods do not run: `("ImagePullBackOff", "web-abc: Back-off pulling image …")`.

    Args:
        pods: manifests, in any order.

    Returns:
        Reason and message that names the first such Pod by name; None when no Pod has a reason.
    """
    found: list[tuple[int, str, str, str]] = []
    for pod in pods:
        name = text(mapping(pod, "metadata"), "name")
        for reason, message in _pod_reasons(mapping(pod, "status")):
            rank = _WAITING.index(reason) if reason in _WAITING else len(_WAITING)
            found.append((rank, name, reason, message))
    if not found:
        return None
    _, name, reason, message = min(found)
    return clean_text(reason, 128), clean_text(f"{name}: {message}" if message else name, 512)


def _pod_reasons(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    reasons = []
    phase = text(status, "phase")
    for container in (item for key in _CONTAINER_LISTS for item in objects(status, key)):
        state = mapping(container, "state")
        waiting, ended = mapping(state, "waiting"), mapping(state, "terminated")
        if text(waiting, "reason") not in _HARMLESS:
            reasons.append((text(waiting, "reason"), text(waiting, "message")))
        elif phase not in _OVER and count(ended, "exitCode") and count(container, "restartCount"):
            why = f"exit code {count(ended, 'exitCode')}, {text(ended, 'reason') or 'Error'}"
            # kubelet says that it waits only until its next try, which fails as well
            reasons.append(("CrashLoopBackOff", f"container {text(container, 'name')} ended again: {why}"))
    scheduled = judgements(status).get("PodScheduled")
    if scheduled is not None and scheduled.status == FALSE:
        reasons.append((scheduled.reason or "Unschedulable", scheduled.message))
    if phase == "Failed":
        reasons.append((text(status, "reason") or "Failed", text(status, "message")))
    return reasons


class PodRules(KindRules):
    fields = frozenset(
        {
            *("phase", "conditions", "message", "reason", "hostIP", "hostIPs", "podIP", "podIPs", "startTime"),
            *_CONTAINER_LISTS,
        }
    )
    base_conditions = ("Ready",)
    generational = False
    keeps_end = True
    phases = ("Failed", "Unknown", "Pending", "Running", "Succeeded")

    def reflect(self, manifest: Mapping[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        for key in _CONTAINER_LISTS:
            if key in status:  # other fields are checked against the source's own spec and may not fit it
                kept = [{k: v for k, v in item.items() if k in _CONTAINER_FIELDS} for item in objects(status, key)]
                status[key] = kept
        return status

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        phase = text(status, "phase")
        if phase == "Succeeded":
            return HEALTHY
        for reason, message in _pod_reasons(status):
            if phase == "Failed" or reason.endswith(("Error", "BackOff")):
                return Verdict(Health.DEGRADED, reason, message)
        ready = judgements(status).get("Ready")
        if phase == "Running" and ready is not None and ready.status == TRUE:
            return HEALTHY
        reasons = _pod_reasons(status)
        reason, message = reasons[0] if reasons else (phase or "Pending", "the Pod is not ready")
        return Verdict(Health.PROGRESSING, reason, message)

    def terminal(self, status: Mapping[str, Any]) -> bool:
        return text(status, "phase") in _OVER

    def merge(self, view: View) -> dict[str, Any] | None:
        kept = {key: view.previous[key] for key in ("qosClass",) if key in view.previous}  # immutable
        if not view.reports:
            told = {**view.previous} if view.held else {**kept, "phase": "Pending"}
            return None if self.terminal(view.previous) else {**told, "conditions": list(view.conditions)}
        worst = worst_phase(view.reports, self.phases)
        if len(view.targets) == 1:
            merged = {**kept, **worst.status}
            for key in _CONTAINER_LISTS:
                if key in merged:
                    merged[key] = _allowed(merged[key], objects(view.previous, key), text(view.spec, "restartPolicy"))
        else:
            phase = text(worst.status, "phase") or "Pending"
            if not view.complete and self.phases.index(phase) > self.phases.index("Pending"):
                phase = "Pending"
            merged = {**kept, "phase": phase}
        started = times((report.status.get("startTime") for report in view.reports), view.now)
        merged.pop("startTime", None)
        if started:
            merged["startTime"] = started[0]
        if phase_reason := text(worst.status, "reason"):
            merged |= {"reason": phase_reason, "message": text(worst.status, "message")}
        return {**merged, "conditions": list(view.conditions)}


def _allowed(wanted: list[dict[str, Any]], previous: list[dict[str, Any]], restart_policy: str) -> list[dict[str, Any]]:
    """Container statuses that the API server takes: a container that may not restart stays terminated."""
    before = {text(item, "name"): item for item in previous}
    allowed = []
    for item in wanted:
        old = before.get(text(item, "name"))
        ended = mapping(mapping(old, "state"), "terminated") if old else {}
        again = not mapping(mapping(item, "state"), "terminated")
        final = restart_policy == "Never" or (restart_policy == "OnFailure" and count(ended, "exitCode") == 0)
        allowed.append(old if old and ended and again and final else item)
    return allowed
