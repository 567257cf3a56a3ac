"""The hub's answers as text for people. Pure: shapes in, text out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from syncer.api.hints import hint
from syncer.api.shapes import (
    Explanation,
    ObjectStatus,
    PlacementMatch,
    PodList,
    Problem,
    ProblemList,
    TargetExplanation,
    TargetStatus,
)
from syncer.cli.output import age, columns, since

_VERSION: Final = re.compile(r"v\d+((alpha|beta)\d+)?")
_MARKS: Final = {"Synced": "✓", "Pending": "…", "Deleting": "…", "Unknown": "?"}  # else ✗
NOTHING_WRONG: Final = "Everything is in sync."
NOTHING_WRONG_IN_SIGHT: Final = "Everything that you may see is in sync."


def short(reference: str) -> str:
    """`apps/v1/Deployment/shop/web`, `v1/ConfigMap/shop/web` or `Placement/shop/web` as `Deployment/web` and so on."""
    parts = reference.split("/")
    if len(parts) < 2:
        return reference
    kind = parts[1] if _VERSION.fullmatch(parts[0]) else parts[2] if len(parts) > 3 else parts[0]
    return f"{kind}/{parts[-1]}"


def problems(found: ProblemList, *, wide: bool = False) -> str:
    """Everything that is not in sync, and below it what to do, once for each reason."""
    if not found.items:
        return NOTHING_WRONG_IN_SIGHT if found.filtered else NOTHING_WRONG
    header = ["NAMESPACE", "OBJECT", "TARGET", "REASON", "SINCE", "MESSAGE"]
    if wide:
        header.insert(3, "PLACEMENT")
    rows = []
    for item in found.items:
        about = item.object or item.placement or (f"SyncTarget/{item.target}" if item.target else "-")
        row = [item.namespace, about if wide else short(about), item.target, item.reason]
        row += [since(item.since), _message(item.reason, item.message)]
        if wide:
            row.insert(3, item.placement)
        rows.append(row)
    parts = [columns(header, rows), "", _what_to_do(found.items)]
    if found.omitted:
        parts.append(f"… and {found.omitted} more; narrow it down with -n NAMESPACE.")
    return "\n".join(part for part in parts if part or part == "").rstrip()


def _message(reason: str, message: str) -> str:
    """A message without the reason that stands beside it already."""
    return message.removeprefix(f"{reason}: ")


def _what_to_do(items: Iterable[Problem]) -> str:
    advice = {(item.reason, item.hint or hint(item.reason)) for item in items}
    told = [(f"{reason}:", text) for reason, text in sorted(advice) if text]
    return "What to do:\n" + columns([], told, indent="  ") if told else ""


def status(found: ObjectStatus) -> str:
    """One object's state on every target."""
    title = _title(found.object, found.generation)
    if not found.targets:
        return f"{title}\nNo target holds it or should hold it; syncline explain says why."
    rows = [
        (
            target.name,
            target.health,
            " ".join(f"{name}={value}" for name, value in target.counters.items()),
            _seen(target),
            target.message,
        )
        for target in found.targets
    ]
    return f"{title}\n\n{columns(['TARGET', 'HEALTH', 'COUNTERS', 'SEEN', 'MESSAGE'], rows)}"


def _title(reference: str, generation: int) -> str:
    """Kinds like ConfigMap have no generation."""
    return f"{reference}   generation {generation}" if generation else reference


def _seen(target: TargetStatus) -> str:
    """How old it is what we tell."""
    if target.age_seconds is None:
        return "no data"
    return f"{age(target.age_seconds)} ago (stale)" if target.stale else "live"


def pods(found: PodList, *, wide: bool = False) -> str:
    """Pods of all targets with the reason why one does not run."""
    header = ["TARGET", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "MESSAGE"]
    rows = [
        [p.target, p.name, p.ready, p.reason or p.phase, p.restarts, age(p.age_seconds), p.message] for p in found.items
    ]
    if wide:
        header.insert(6, "NODE")
        for row, pod in zip(rows, found.items, strict=True):
            row.insert(6, pod.node)
    text = columns(header, rows) if rows else "No Pods."
    advice = sorted({(f"{p.reason}:", hint(p.reason)) for p in found.items if hint(p.reason)})
    if advice:
        text += "\n\nWhat to do:\n" + columns([], advice, indent="  ")
    if found.omitted:
        text += f"\n… and {found.omitted} more."
    if found.unreachable:
        text += f"\nNot asked, because not reachable: {', '.join(found.unreachable)}."
    return text


def explanation(found: Explanation) -> str:
    """Which placement matched, what each target gets or why not, who owns which field, what to do."""
    parts = [_title(found.object, found.generation)]
    if found.skip_reason:
        parts.append(f"\nNever placed: {found.skip_reason}")
    parts.append("\nPlacements")
    parts += [f"  {_placement(match)}" for match in found.placements] or [
        "  none in this namespace, and no ClusterPlacement"
    ]
    if found.targets:
        parts.append("\nTargets")
        for target in found.targets:
            parts += [f"  {line}" for line in _target(target)]
    if found.hints:
        parts.append("\nWhat to do")
        parts += [f"  {text}" for text in found.hints]
    return "\n".join(parts)


def _placement(match: PlacementMatch) -> str:
    if not match.matched:
        nearest = " (the nearest)" if match.nearest else ""
        return f"✗ {match.name}{nearest}: {match.why_not or 'does not select it'}"
    told = [f"priority {match.priority}"]
    if match.wins_on:
        told.append(f"decides on {', '.join(match.wins_on)}")
    if match.loses_on:
        told.append(f"gives way on {', '.join(match.loses_on)}")
    return f"✓ {match.name}: {'; '.join(told)}"


def _target(target: TargetExplanation) -> list[str]:
    if not target.selected:
        return [f"✗ {target.name}: {target.why_not or 'not selected'}"]
    mark = _MARKS.get(target.state, "✗")
    told = [target.state or "Unknown"]
    if target.applied_generation:
        told.append(f"generation {target.applied_generation}")
    if target.placement:
        told.append(f"by {target.placement}")
    lines = [f"{mark} {target.name}: {', '.join(told)}"]
    if target.reason or target.message:
        lines.append(f"    {': '.join(filter(None, (target.reason, _message(target.reason, target.message))))}")
        lines += [f"    → {text}" for text in [target.hint or hint(target.reason)] if text]
    if target.observed != "present":
        lines.append(f"    on the target: {target.observed}")
    lines += [f"    transform {text}" for text in target.transforms]
    lines += [f"    {owner.field} belongs to {owner.manager}" for owner in target.owners]
    return lines
