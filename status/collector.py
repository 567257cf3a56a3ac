"""From an observed synced object to a report, or to the refusal of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from status.kinds import KindRules, rules_for
from status.kinds.base import Verdict
from status.kinds.pod import waiting_reason
from status.report import Health, Refused, Report
from status.sanitize import Sanitizer, clean_text, impossible
from status.values import count, mapping

__all__ = ["collect", "waiting_reason"]


def collect(
    manifest: Mapping[str, Any],
    *,
    group_kind: tuple[str, str],
    target: str,
    target_uid: str,
    source_uid: str,
    source_generation: int,
    now: float,
) -> Report | Refused:
    """Reflect and judge one synced object as its target shows it.

    What the target says is pruned to the kind's fields, capped (32 KiB, 100 conditions, 1,024
    characters a text) and freed of control characters; cuts are counted in the report.

    Args:
        manifest: the synced object, `.status` included.
        group_kind: `("apps", "Deployment")`; the core group is "".
        source_generation: the generation in the synced object's `syncline.io/source` annotation.
        now: seconds since the epoch.

    Returns:
        `Refused` for values that no honest controller writes: negative counts, generations that
        lie in the future, phases that do not exist, a status that is not an object.
    """
    rules = rules_for(*group_kind)
    metadata = mapping(manifest, "metadata")
    raw, generation = manifest.get("status"), count(metadata, "generation")
    if raw is not None and not isinstance(raw, dict):
        return Refused("status is not an object")
    wrong = impossible(raw or {}, rules.counter_names(raw or {}), generation, rules.phases)
    if wrong:
        return Refused(wrong)
    sanitizer = Sanitizer()
    said = sanitizer.status(raw or {}, rules.fields)
    observed = _observed(rules, said, generation)
    observed_generation = source_generation if observed else max(0, source_generation - 1)
    status = rules.reflect(manifest, _with_source_generations(said, generation, source_generation, observed_generation))
    deleting = bool(metadata.get("deletionTimestamp"))
    verdict = rules.health(manifest, status, observed=observed)
    if deleting:
        verdict = Verdict(Health.PROGRESSING, "Terminating", "the object is being deleted")
    return Report(
        target=target,
        target_uid=target_uid,
        source_uid=source_uid,
        source_generation=source_generation,
        observed_generation=observed_generation,
        present=True,
        health=verdict.health,
        status=status,
        collected_at=now,
        message=clean_text(verdict.message),
        reason=clean_text(verdict.reason, 128),
        rolled_out=observed and not deleting and rules.rolled_out(manifest, status),
        terminal=rules.terminal(status),
        cuts=sanitizer.cuts,
    )


def _observed(rules: KindRules, status: Mapping[str, Any], generation: int) -> bool:
    if rules.generational is False or (rules.generational is None and "observedGeneration" not in status):
        return True
    return count(status, "observedGeneration") >= max(generation, 1)


def _with_source_generations(
    status: dict[str, Any], generation: int, source_generation: int, observed_generation: int
) -> dict[str, Any]:
    """The status with the target's own generations replaced by those of the source that they stand for."""
    if "observedGeneration" in status:
        status["observedGeneration"] = observed_generation
    conditions = status.get("conditions")
    if isinstance(conditions, list):
        status["conditions"] = items = [item for item in conditions if isinstance(item, dict)]
        for item in items:
            if "observedGeneration" in item:
                current = count(item, "observedGeneration") >= generation
                item["observedGeneration"] = source_generation if current else max(0, source_generation - 1)
    return status
