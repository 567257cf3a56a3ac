"""What API servers themselves say was written: their audit logs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io"}, {"group": "authorization.k8s.io"}]},
        {"level": "Metadata"},
    ],
}
WRITER = "syncline"  # the user that the operator is on light targets


class AuditLog:
    """The audit log of one API server, from a place on."""

    def __init__(self, folder: Path) -> None:
        self.policy, self.path = folder / "policy.json", folder / "audit.log"
        self.policy.write_text(json.dumps(POLICY))
        self._from = 0

    def skip(self) -> None:
        """Forget what was written up to now."""
        self._from = self.path.stat().st_size if self.path.exists() else 0

    def writes(self) -> Iterator[dict[str, Any]]:
        """Successful writes of the operator."""
        with self.path.open("rb") as lines:
            lines.seek(self._from)
            for line in lines:
                event = json.loads(line)
                if event["user"]["username"] == WRITER and event["responseStatus"].get("code", 500) < 300:
                    yield event

    def deletes(self, resource: str = "configmaps") -> Counter[tuple[str, str]]:
        """{(namespace, name): times} of successful deletes; a collection's has the name `*`."""
        found: Counter[tuple[str, str]] = Counter()
        for event in self.writes():
            about = event.get("objectRef", {})
            if event["verb"] in ("delete", "deletecollection") and about.get("resource") == resource:
                found[about.get("namespace", ""), about.get("name", "*")] += 1
        return found


def audit_arguments(log: AuditLog) -> tuple[str, ...]:
    """Flags of kube-apiserver that write this log."""
    return (f"--audit-policy-file={log.policy}", f"--audit-log-path={log.path}")
