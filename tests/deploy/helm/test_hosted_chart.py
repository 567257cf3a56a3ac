"""The chart's hosted upstream: who may write which Secret, what runs, and its objects on a real API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.helm.render import NAMESPACE, template
from deploy.local.components import UPSTREAM_CONTROLLERS
from deploy.local.fleet import Fleet
from syncer.cli.upstream import ADMIN_SECRET
from syncer.hub.hosted import ADMIN, CONTROLLERS, NAMES, SERVER
from tests.deploy.helm.conftest import Render

HOSTED = {"upstream.mode": "hosted"}


def test_the_pod_waits_for_secrets_that_the_job_may_write(render: Render) -> None:
    """S73: by name; nobody else's Secret can be read."""
    objects = render("syncline", HOSTED)
    rules = objects["Role", "syncline-upstream-certificates"]["rules"]
    named = [rule for rule in rules if "resourceNames" in rule]
    assert [(rule["verbs"], set(rule["resourceNames"])) for rule in named] == [(["get", "update"], set(NAMES))]
    assert [rule["verbs"] for rule in rules if rule not in named] == [["create"]]
    pod = objects["StatefulSet", "syncline-upstream"]["spec"]["template"]["spec"]
    mounted = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert mounted == {SERVER, CONTROLLERS}
    install = objects["Job", "syncline-upstream-install-1"]["spec"]["template"]["spec"]
    assert [v["secret"]["secretName"] for v in install["volumes"] if "secret" in v] == [ADMIN] == [ADMIN_SECRET]


def test_what_is_renewed_is_what_was_made(render: Render) -> None:
    objects = render("syncline", {**HOSTED, "upstream.hosted.names[0]": "up.example"})
    job = objects["Job", "syncline-upstream-certificates-1"]["spec"]["template"]
    assert objects["CronJob", "syncline-upstream-certificates"]["spec"]["jobTemplate"]["spec"]["template"] == job
    (container,) = job["spec"]["containers"]
    assert container["args"] == ["upstream", "certificates", f"--namespace={NAMESPACE}", "--name=up.example"]


def test_no_controller_of_workloads_runs(render: Render) -> None:
    """The same few as upstream on one machine."""
    (argument,) = [a for a in _commands(render("syncline", HOSTED))["controllers"] if a.startswith("--controllers=")]
    assert argument.removeprefix("--controllers=").split(",") == list(UPSTREAM_CONTROLLERS)


def test_other_modes_host_nothing(render: Render) -> None:
    assert not [
        name for _, name in render("syncline", {"upstream.mode": "host"}) if name.startswith("syncline-upstream")
    ]


def _commands(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, list[str]]:
    containers = objects["StatefulSet", "syncline-upstream"]["spec"]["template"]["spec"]["containers"]
    return {container["name"]: container["command"] for container in containers}


@pytest.mark.real
def test_a_cluster_takes_every_object_as_restricted(helm: Path, fleet: Fleet, namespace: str) -> None:
    """S71: Pod Security Standard restricted has nothing to say."""
    fleet.kubectl("east", "create", "namespace", namespace)
    fleet.kubectl("east", "label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
    text = template(helm, "syncline", HOSTED).replace(f"namespace: {NAMESPACE}", f"namespace: {namespace}")
    done = fleet.kubectl("east", "apply", "--dry-run=server", "-o", "json", "-f", "-", stdin=text)
    kinds = [item["kind"] for item in json.loads(done.stdout)["items"]]
    assert {"StatefulSet", "Job", "CronJob", "Role", "NetworkPolicy"} <= set(kinds)
    assert "Warning" not in done.stderr, done.stderr
