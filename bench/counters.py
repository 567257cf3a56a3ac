"""How many writes API servers say they served, by `apiserver_request_total`. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

WRITES: Final = frozenset({"APPLY", "PATCH", "POST", "PUT", "DELETE", "DELETECOLLECTION"})
# Writes that go on without any object: election, heartbeats of targets and nodes.
HOUSEKEEPING: Final = frozenset({"leases", "synctargets", "nodes"})

_SAMPLE: Final = re.compile(r"^apiserver_request_total\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Write(NamedTuple):
    """What writes are counted by; `resource` is the plural, `subresource` is "" for the object itself."""

    verb: str
    resource: str
    subresource: str
    ok: bool


def parse_writes(exposition: str) -> Counter[Write]:
    """The writes in a scrape of an API server; dry runs are not writes."""
    found: Counter[Write] = Counter()
    for text, value in _SAMPLE.findall(exposition):
        labels = dict(_LABEL.findall(text))
        if labels["verb"] in WRITES and not labels.get("dry_run"):
            write = Write(labels["verb"], labels["resource"], labels["subresource"], labels["code"].startswith("2"))
            found[write] += int(float(value))
    return found


def written_by_syncline(before: Mapping[str, Counter[Write]], after: Mapping[str, Counter[Write]]) -> Counter[str]:
    """Syncline's writes between two scrapes, refused ones included: {"east: APPLY configmaps": 12}.

    Targets: only Syncline applies there. Upstream nobody else patches or applies, and nobody else posts Events.

    Args:
        before, after: scrapes by cluster; the upstream is called `upstream`.
    """
    ours: Counter[str] = Counter()
    for cluster, now in after.items():
        for write, count in (now - before.get(cluster, Counter())).items():
            if write.resource in HOUSEKEEPING:
                continue
            verbs = {"APPLY", "PATCH"} if cluster == "upstream" else {"APPLY"}
            event = cluster == "upstream" and write.resource == "events" and write.verb == "POST"
            if write.verb in verbs or event:
                place = "/".join(filter(None, (write.resource, write.subresource)))
                ours[f"{cluster}: {write.verb} {place}{'' if write.ok else ' (refused)'}"] += count
    return ours
