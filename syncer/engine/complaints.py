"""What targets say is wrong with an object that stands there. Pure."""

from __future__ import annotations

from status.report import Health
from syncer.api.names import Reason
from syncer.engine.state import Source

Word = tuple[str, str]  # reason and message


def reports(source: Source) -> dict[str, Word]:
    """What targets say is wrong with an object that is there: why its Pods wait, why it failed, what makes no sense."""
    found: dict[str, Word] = {}
    for slot in source.aggregator.slots() if source.aggregator is not None else ():
        if slot.stale_since is not None:
            continue  # the target itself is listed
        if slot.note_reason:
            found[slot.target] = slot.note_reason, slot.note_message
        elif slot.refused:
            found[slot.target] = Reason.INVALID_STATUS, slot.refused
        elif slot.health is Health.DEGRADED and slot.report is not None:
            found[slot.target] = slot.report.reason or Health.DEGRADED, slot.report.message
    return found
