"""Any other kind: conditions by convention, the whole status of one target, what all agree on of several."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from status.conditions import TRUE, judgements
from status.kinds.base import HEALTHY, NOT_OBSERVED, KindRules, Verdict, View
from status.report import Health
from status.sanitize import MAX_INT32
from status.values import count

_COUNT: Final = re.compile(r"(^r|R)eplicas$")  # what a scale subresource calls them


class GenericRules(KindRules):
    """Several targets: replica counts summed, conditions merged; of the rest only what all targets agree on."""

    generational = None
    typed = False

    def counter_names(self, status: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(name for name in status if _COUNT.search(name))

    def health(self, manifest: Mapping[str, Any], status: Mapping[str, Any], *, observed: bool) -> Verdict:
        if not observed:
            return NOT_OBSERVED
        given = judgements(status)
        for kind in ("Ready", "Available"):
            said = given.get(kind)
            if said is not None and said.status != TRUE:
                return Verdict(Health.PROGRESSING, said.reason or f"Not{kind}", said.message)
        return HEALTHY

    def merge(self, view: View) -> dict[str, Any] | None:
        if not view.reports and view.held:
            return {**view.previous, "conditions": list(view.conditions)} if view.conditions else None
        if not view.reports:
            merged: dict[str, Any] = dict.fromkeys(self.counter_names(view.previous), 0)
        elif len(view.reports) == 1 and view.complete:
            merged = dict(view.reports[0].status)
        else:
            merged = self._several(view)
        merged.pop("conditions", None)
        merged.pop("observedGeneration", None)
        if view.observed_generation:
            merged["observedGeneration"] = view.observed_generation
        if view.conditions:
            merged["conditions"] = list(view.conditions)
        return merged

    def _several(self, view: View) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for report in view.reports:
            for name in self.counter_names(report.status):
                merged[name] = min(merged.get(name, 0) + count(report.status, name), MAX_INT32)
        if view.held:
            merged = {name: max(value, count(view.previous, name)) for name, value in merged.items()}
        for name, value in view.reports[0].status.items() if view.complete else ():
            if name not in merged and all(report.status.get(name) == value for report in view.reports):
                merged[name] = value
        return merged
