"""What is derived: files of the charts from their sources, deploy/manifests from the charts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.helm.tool import run
from syncer.agent.policy import policy_text
from syncer.agent.role import COMMENTS, default_policy

REPOSITORY: Final = Path(__file__).parents[2]
CHARTS: Final = Path(__file__).parent
MANIFESTS: Final = REPOSITORY / "deploy" / "manifests"
NAMESPACE: Final = "syncline-system"
KUBERNETES: Final = "1.36"  # what `helm template` takes for the cluster's version
_SOURCE: Final = re.compile(r"^# Source: .*\n", re.MULTILINE)


@dataclass(frozen=True)
class Manifest:
    """One file of deploy/manifests.

    Attributes:
        values: what is set, `{path: value}` as for `--set`.
        about: comment at its top.
    """

    chart: str
    about: str
    values: Mapping[str, str] = field(default_factory=dict)


# {file: what it is}; mode hosted makes its certificates and needs no plain manifests beside the chart.
RENDERED: Final = {
    "operator-host.yaml": Manifest(
        "syncline", "The operator with this cluster as upstream.", {"upstream.mode": "host"}
    ),
    "operator-external.yaml": Manifest(
        "syncline",
        "The operator with another API server as upstream: put its kubeconfig into Secret syncline-upstream first.",
        {"upstream.mode": "external", "upstream.external.kubeconfigSecret.name": "syncline-upstream"},
    ),
    "agent.yaml": Manifest(
        "syncline-agent",
        "The agent of a target. Put your hub and name into its arguments --hub, --ca-hash and --target, and the\n"
        "# token of `syncline token create NAME` into Secret syncline-agent-token, key token.",
        {
            "hub.url": "https://hub.example.com",
            "hub.caHash": f"sha256:{'0' * 64}",
            "target": "east",
            "tokenSecret.name": "syncline-agent-token",
        },
    ),
}


def copies() -> dict[Path, str]:
    """Files of the charts that come from elsewhere, `{path: text}`: CRDs, roles, the agent's default policy."""
    target = CHARTS / "syncline" / "files"
    agent = {CHARTS / "syncline-agent" / "files" / "policy.yaml": policy_text(default_policy(), COMMENTS)}
    return agent | {
        target / source.parent.name / source.name: source.read_text()
        for folder in ("crds", "rbac")
        for source in sorted((REPOSITORY / "deploy" / folder).glob("*.yaml"))
    }


def template(
    helm: Path, chart: str, values: Mapping[str, str], *, file: Path | None = None, namespace: str = NAMESPACE
) -> str:
    """The manifests of a chart, without comments on where each comes from; the release is named as the chart.

    Args:
        file: of more values.
    Raises:
        GroundError: the values are refused, or the chart is broken; with helm's words.
    """
    sets = [word for path, value in values.items() for word in ("--set", f"{path}={value}")]
    arguments = ["template", chart, str(CHARTS / chart), "--namespace", namespace, "--kube-version", KUBERNETES]
    given = ["--values", str(file)] if file else []
    lines = _SOURCE.sub("", run(helm, [*arguments, *given, *sets])).splitlines()
    text = "\n".join(line.rstrip() for line in lines)
    documents = [document.strip("\n") for document in re.split(r"^---$", text, flags=re.MULTILINE)]
    return "---\n".join(f"{document}\n" for document in documents if document.strip())


def manifests(helm: Path) -> dict[Path, str]:
    """Every file of deploy/manifests, `{path: text}`."""
    files = {}
    for name, wanted in RENDERED.items():
        head = (
            f"# {wanted.about}\n# Rendered from deploy/helm/{wanted.chart} by `python -m deploy.helm`; do not edit.\n"
        )
        files[MANIFESTS / name] = head + _namespace() + template(helm, wanted.chart, wanted.values)
    return files


def _namespace() -> str:
    """helm makes it with --create-namespace; here it is part of the file, and says which Pods it takes."""
    return (
        f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n"
        "  labels: {pod-security.kubernetes.io/enforce: restricted}\n---\n"
    )
