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

    def writes(self, namespace: str, resource: str = "configmaps") -> Iterator[dict[str, Any]]:
        """Successful writes of the operator to one kind in one namespace."""
        with self.path.open("rb") as lines:
            lines.seek(self._from)
            for line in lines:
                event = json.loads(line)
                about = event.get("objectRef", {})
                if (about.get("namespace"), about.get("resource")) != (namespace, resource):
                    continue
                if event["user"]["username"] == WRITER and event["responseStatus"].get("code", 500) < 300:
                    yield event

    def deletes(self, namespace: str, resource: str = "configmaps") -> Counter[str]:
        """{name: times} of successful deletes; a collection's has the name `*`."""
        gone = (event for event in self.writes(namespace, resource) if event["verb"].startswith("delete"))
        return Counter(event["objectRef"].get("name", "*") for event in gone)


def audit_arguments(log: AuditLog) -> tuple[str, ...]:
    """Flags of kube-apiserver that write this log."""
    return (f"--audit-policy-file={log.policy}", f"--audit-log-path={log.path}")
