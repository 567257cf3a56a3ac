"""Objects and calls that the tests of this room share."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from syncer.api.keys import GroupKind
from syncer.api.transforms import Transform
from syncer.transform import Pipeline, TargetView, compile_transforms

DEPLOYMENT = GroupKind("apps", "Deployment")
CRON_JOB = GroupKind("batch", "CronJob")
JOB = GroupKind("batch", "Job")
POD = GroupKind("", "Pod")
CONFIG_MAP = GroupKind("", "ConfigMap")
SECRET = GroupKind("", "Secret")
WEST = TargetView("west", "west-uid", {"region": "us", "bad": "not a label"}, {"note": "far away"})
EAST = TargetView("east", "east-uid", {"region": "eu"})


def workload(
    kind: str = "Deployment",
    api_version: str = "apps/v1",
    *,
    containers: list[dict[str, Any]] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A workload with one container unless told otherwise; `spec` goes beside the template."""
    pod: dict[str, Any] = {"containers": containers or [{"name": "app", "image": "nginx:1.27"}]}
    body: dict[str, Any] = {**spec, "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod}}
    if kind == "CronJob":
        body = {**spec, "schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    if kind == "Pod":
        body = {**pod, **spec}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "web", "namespace": "shop"}, "spec": body}


def compiled(*transforms: dict[str, Any]) -> Pipeline:
    """The pipeline of transforms in their wire form."""
    return compile_transforms([Transform.model_validate(transform) for transform in transforms])


def transformed(
    manifest: dict[str, Any], *transforms: dict[str, Any], kind: GroupKind = DEPLOYMENT, target: TargetView = WEST
) -> dict[str, Any]:
    """The manifest after the transforms; fails if the input was touched."""
    before = deepcopy(manifest)
    after = compiled(*transforms).run(manifest, kind=kind, target=target)
    assert manifest == before
    return after


def first_container(manifest: dict[str, Any]) -> dict[str, Any]:
    """Of a Deployment."""
    container: dict[str, Any] = manifest["spec"]["template"]["spec"]["containers"][0]
    return container
