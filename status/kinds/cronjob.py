"""CronJob: active Jobs of all targets, newest times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from status.kinds.base import HEALTHY, KindRules, Verdict, View
from status.report import Health
from status.sanitize import MAX_LIST_ITEMS
from status.values import mapping, objects, text, times

_REFERENCE: Final = ("namespace", "name", "uid", "kind", "apiVersion")


class CronJobRules(KindRules):
    fields = frozenset({"active", "lastScheduleTime", "lastSuccessfulTime"})
    generational = False

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        if mapping(manifest, "spec").get("suspend") is True:
            return Verdict(Health.SUSPENDED, "Suspended", "the CronJob is suspended")
        return HEALTHY

    def merge(self, view: View) -> dict[str, Any] | None:
        active = {
            tuple(text(item, field) for field in _REFERENCE)
            for report in view.reports
            for item in objects(report.status, "active")
        }
        listed = [dict(zip(_REFERENCE, values, strict=True)) for values in sorted(active)[:MAX_LIST_ITEMS]]
        merged: dict[str, Any] = {"active": listed}
        for name in ("lastScheduleTime", "lastSuccessfulTime"):
            known = times((report.status.get(name) for report in view.reports), view.now)
            newest = known[-1] if known else text(view.previous, name)
            if newest:
                merged[name] = newest
        return merged
