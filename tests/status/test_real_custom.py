"""Custom resources: the generic rule against a real schema."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from status.aggregator import Aggregator
from status.collector import collect
from status.report import Expected, Report
from tests.status.builders import condition, conditions
from tests.status.upstream import Api, Refusal, Source
from tests.support.fleet import Kubectl, wait_until

CONDITION = {
    "type": "object",
    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
    "properties": {
        "type": {"type": "string"},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "reason": {"type": "string", "minLength": 1, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
        "message": {"type": "string", "maxLength": 32768},
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "observedGeneration": {"type": "integer", "minimum": 0},
    },
}


@pytest.fixture(scope="module")
def widgets(kubectl: Kubectl) -> Iterator[str]:
    """A CRD of its own API group, upstream; gives the group."""
    group = f"w{uuid.uuid4().hex[:8]}.example.com"
    count = {"type": "integer", "minimum": 0}
    status = {
        "observedGeneration": count,
        "replicas": count,
        "readyReplicas": count,
        "phase": {"type": "string"},
        "url": {"type": "string"},
        "conditions": {
            "type": "array",
            "items": CONDITION,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    }
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "status": {"type": "object", "properties": status},
        },
    }
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
    kubectl.apply("upstream", crd)
    kubectl("upstream", "wait", "crd", f"widgets.{group}", "--for=condition=Established", "--timeout=20s")
    yield group
    kubectl("upstream", "delete", "crd", f"widgets.{group}", "--wait=false")


def created(upstream: Api, manifest: dict[str, Any]) -> Source | None:
    """None while the server does not serve the new kind yet."""
    try:
        return Source(upstream, manifest)
    except Refusal as refusal:
        if refusal.status != 404:
            raise
        return None


class WidgetLine:
    def __init__(self, upstream: Api, kubectl: Kubectl, namespace: str, group: str) -> None:
        manifest = {
            "apiVersion": f"{group}/v1",
            "kind": "Widget",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {"size": 1},
        }
        self.kubectl, self.kind = kubectl, (group, "Widget")
        source = wait_until(lambda: created(upstream, manifest))
        assert source is not None
        self.source = source
        self.made = Aggregator(self.kind, self.source.uid)

    def say(self, target: str, *, generation: int = 1, downstream: int = 4, **status: Any) -> dict[str, Any]:
        report = collect(
            {"metadata": {"uid": "d", "generation": downstream}, "spec": {}, "status": status},
            group_kind=self.kind,
            target=target,
            target_uid=target,
            source_uid=self.source.uid,
            source_generation=generation,
            now=0.0,
        )
        assert isinstance(report, Report), report
        self.made.put(report)
        self.source.write(self.made)
        return self.source.status

    def waits(self, condition: str) -> bool:
        said = self.kubectl.attempt(
            "upstream", "wait", *self.source.scope, f"--for=condition={condition}", "--timeout=0"
        )
        return said.returncode == 0


def test_one_target_gives_its_whole_status(upstream: Api, kubectl: Kubectl, namespace: str, widgets: str) -> None:
    """The target's own generations become those of the source; unknown fields are pruned once and not fought over."""
    line = WidgetLine(upstream, kubectl, namespace, widgets)
    line.made.expect({"east": Expected(1)})
    ready = condition("Ready", "True", "", "up", observedGeneration=4)
    status = line.say(
        "east", observedGeneration=4, phase="Running", url="http://a", pruned={"a": 1}, conditions=[ready]
    )
    assert (status["phase"], status["url"], status["observedGeneration"]) == ("Running", "http://a", 1)
    told = conditions(status)["Ready"]
    assert (told["status"], told["message"], told["observedGeneration"]) == ("True", "east: up", 1)
    assert "pruned" not in status
    assert not line.source.write(line.made), "what the server pruned is not written again"
    assert line.waits("Ready")
    status = line.say("east", observedGeneration=4, url="http://a", conditions=[ready])
    assert "phase" not in status, "a field that went away goes away"


def test_several_targets_give_sums_and_the_worst_conditions(
    upstream: Api, kubectl: Kubectl, namespace: str, widgets: str
) -> None:
    line = WidgetLine(upstream, kubectl, namespace, widgets)
    line.made.expect({"east": Expected(1), "west": Expected(1)})
    up: dict[str, Any] = {"observedGeneration": 4, "replicas": 2, "readyReplicas": 2, "phase": "Running"}
    line.say("east", **up, url="http://east", conditions=[condition("Ready", "True", "Up")])
    assert not line.waits("Ready"), "west has not spoken"
    status = line.say("west", **up, url="http://west", conditions=[condition("Ready", "False", "Booting", "soon")])
    assert (status["replicas"], status["readyReplicas"], status["phase"]) == (4, 4, "Running")
    assert "url" not in status, "targets disagree"
    assert conditions(status)["Ready"]["message"] == "west: soon"
    line.say("west", **up, url="http://west", conditions=[condition("Ready", "True", "Up")])
    assert line.waits("Ready")
    line.source.patch_spec({"size": 2})
    line.made.expect({"east": Expected(2), "west": Expected(2)})
    status = line.say(
        "east",
        generation=2,
        downstream=5,
        **{**up, "observedGeneration": 5},
        url="http://east",
        conditions=[condition("Ready", "True", "Up")],
    )
    assert status["observedGeneration"] == 1
    assert not line.waits("Ready")


def test_a_ready_of_an_older_generation_is_not_ready(
    upstream: Api, kubectl: Kubectl, namespace: str, widgets: str
) -> None:
    """P8: also for a kind that has no observedGeneration, where kubectl wait cannot tell."""
    line = WidgetLine(upstream, kubectl, namespace, widgets)
    line.made.expect({"east": Expected(1)})
    line.say("east", conditions=[condition("Ready", "True", "Up")])
    assert line.waits("Ready")
    line.source.patch_spec({"size": 2})
    line.made.expect({"east": Expected(2)})
    assert line.source.write(line.made)
    assert conditions(line.source.status)["Ready"]["reason"] == "OldGeneration"
    assert not line.waits("Ready")
    line.say("east", generation=2, conditions=[condition("Ready", "True", "Up")])
    assert line.waits("Ready")


def test_a_status_for_an_older_object_or_another_incarnation_is_refused(
    upstream: Api, kubectl: Kubectl, namespace: str, widgets: str
) -> None:
    """The write is conditional without a read: 409 for an older version, 422 for another uid."""
    line = WidgetLine(upstream, kubectl, namespace, widgets)
    line.made.expect({"east": Expected(1)})
    line.source.present["metadata"]["resourceVersion"] = "1"
    with pytest.raises(Refusal, match=r"^409 .*the object has been modified"):
        line.say("east", phase="Running")
    line.source.reread()
    line.source.present["metadata"] |= {"uid": "another", "resourceVersion": ""}
    with pytest.raises(Refusal, match=r"^422 "):
        line.say("east", phase="Pending")
    line.source.reread()
    assert line.source.status == {}
