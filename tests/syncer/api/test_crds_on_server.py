"""Our CRDs on a real API server: what they take, what they refuse and where, defaults, columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from deploy.local.fleet import Fleet
from syncer.api.placement import Placement
from syncer.api.synctarget import SyncTarget
from tests.support.fleet import Kubectl
from tests.syncer.api.cases import REFUSED, VALUELESS, Refused, cluster_placement, placement, sync_target
from tests.syncer.api.server import Answer, Server

WHOLE_PLACEMENT = """
apiVersion: syncline.io/v1alpha1
kind: Placement
metadata: {name: web, namespace: shop}
spec:
  resources:
  - {apiVersion: apps/v1, kind: Deployment, names: ["web*"]}
  - {apiVersion: v1, kind: ConfigMap, labelSelector: {matchLabels: {app: web}}}
  exclude: []
  targets:
    names: [east, west]
    labelSelector: {matchLabels: {region: eu}}
    all: false
    tolerations: []
    spread: []
    maxTargets: 3
  replicas: {mode: Duplicate}
  transforms:
  - targets: {names: [west]}
    kinds: [Deployment]
    image: {registry: mirror.example, repository: null, tag: null, digest: null, containers: ["*"]}
  - env: {set: {REGION: '${target.labels["region"]}', CLUSTER: '${target.name}'}, remove: [DEBUG], containers: ["*"]}
  - labels: {set: {tier: front}, remove: [old]}
  - annotations: {set: {note: text}}
  - replicas: 2
  - resources: {set: {requests: {cpu: 100m, example.com/gpu: 1}}, scale: "0.5", containers: ["*"]}
  - nodeSelector: {set: {disk: ssd}, remove: []}
  - tolerations: {add: []}
  - imagePullSecrets: {set: [regcred]}
  - storageClass: {map: {fast: gp3}}
  - ingressHost: {map: {web.example: 'web.${target.name}.example'}}
  - args: {containers: ["*"], set: [], append: [], remove: []}
  - command: {containers: ["*"], set: [sh], append: [], remove: []}
  - remove: [/spec/paused]
  - jsonPatch: [{op: add, path: /metadata/labels/x, value: y}, {op: replace, path: /spec/paused, value: null}]
  - mergePatch: {spec: {paused: null, nested: {list: [1, {a: b}]}}}
  - mergePatch: "spec: {paused: false}"
  - cel: {path: /spec/minReadySeconds, expression: 'object.spec.replicas > 3 ? 10 : 0'}
  conflict: {existing: Abort, fields: UpstreamWins, onImmutable: Fail, priority: 0}
  drift: {mode: Enforce, paths: [{path: /spec/replicas, mode: Ignore}]}
  deletion: {policy: Delete, wait: false, offline: Wait}
  rollout: {strategy: AllAtOnce}
  dependencies: false
  status: {mode: Sum}
  namespaceLabels: []
  suspend: false
  manifests: []
  upsync: []
"""
WHOLE_TARGET = """
apiVersion: syncline.io/v1alpha1
kind: SyncTarget
metadata: {name: east, labels: {region: eu}}
spec:
  connection: {direct: {kubeconfigSecretRef: {namespace: syncline-system, name: east, key: kubeconfig}}, tunnel: null}
  namespaceMapping: Same
  unschedulable: false
  taints: []
  evictAfter: null
  resources: {preset: Workloads, allow: [], deny: []}
  limits: {qps: 200, burst: 400, maxConcurrent: 32}
  deletion: Drain
"""


@pytest.fixture(scope="module")
def server(fleet: Fleet, crds: None) -> Server:
    return Server(fleet.upstream.kubeconfig)


@pytest.fixture
def stored(server: Server, namespace: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Stores an object in the test's namespace."""

    def store(manifest: dict[str, Any]) -> dict[str, Any]:
        return server.create(_in(namespace, manifest), keep=True)

    return store


def _in(namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
    if manifest["kind"] != "Placement":
        return manifest
    return manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}}


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.title)
def test_a_broken_rule_is_refused_with_its_path(server: Server, case: Refused) -> None:
    """B03, B04, B05: 422, the path in the causes or, for alternatives, in the message."""
    with pytest.raises(Answer) as caught:
        server.create(_in("default", case.manifest))
    answer = caught.value
    assert answer.code == 422, answer.message
    assert case.says in answer.message
    assert case.path in answer.fields or f'"{case.path}"' in answer.message


@pytest.mark.parametrize("manifest", VALUELESS, ids=("add", "replace", "test"))
def test_a_patch_operation_without_value_is_refused(server: Server, manifest: dict[str, Any]) -> None:
    """B11: JSON patch add, replace and test need a value."""
    with pytest.raises(Answer, match="Required value") as caught:
        server.create(_in("default", manifest))
    assert "spec.transforms[0].jsonPatch[0].value" in caught.value.fields


@pytest.mark.parametrize("name", ["East", "..", "a.b", "a/b", "a:b", "ü", "a" * 41, "a" * 254])
def test_a_target_name_is_a_short_dns_label(server: Server, name: str) -> None:
    """B05: every other name is 422."""
    with pytest.raises(Answer, match=r"metadata\.name") as caught:
        server.create(sync_target(name))
    assert caught.value.code == 422


def test_an_unknown_field_is_refused_with_its_path(server: Server) -> None:
    """B01: kubectl asks for strict validation."""
    manifest = placement(targets={"names": ["east"], "labelSelektor": {}})
    with pytest.raises(Answer, match=r'unknown field "spec\.targets\.labelSelektor"'):
        server.create(_in("default", manifest))


def test_a_target_name_of_forty_characters_is_taken(server: Server) -> None:
    assert server.create(sync_target("a" * 40))["metadata"]["name"] == "a" * 40


def test_everything_of_the_contract_is_taken_and_comes_back(server: Server, namespace: str) -> None:
    """Nothing is pruned, and the model reads back what was written."""
    manifest = _in(namespace, yaml.safe_load(WHOLE_PLACEMENT))
    answer = server.create(manifest)
    for field, value in manifest["spec"].items():
        _assert_within(value, answer["spec"][field], field)
    assert Placement.parse(answer).spec == Placement.parse(manifest).spec
    target = yaml.safe_load(WHOLE_TARGET)
    assert SyncTarget.parse(server.create(target)).spec == SyncTarget.parse(target).spec


def _assert_within(written: Any, stored: Any, path: str) -> None:
    """Every value written is there; defaults may stand beside it."""
    if isinstance(written, dict):
        for key, value in written.items():
            _assert_within(value, stored[key], f"{path}.{key}")
    elif isinstance(written, list):
        assert len(written) == len(stored), path
        for index, value in enumerate(written):
            _assert_within(value, stored[index], f"{path}[{index}]")
    else:
        assert written == stored, path


def test_the_server_and_the_model_have_the_same_defaults(server: Server) -> None:
    """What the server fills in is what pydantic fills in."""
    manifest = placement(namespace="default")
    assert server.create(manifest)["spec"] == Placement.parse(manifest).to_wire()["spec"]
    assert server.create(sync_target())["spec"] == SyncTarget.parse(sync_target()).to_wire()["spec"]
    assert server.create(sync_target())["spec"]["limits"] == {"qps": 200, "burst": 400, "maxConcurrent": 32}


def test_a_cluster_placement_may_name_namespaces(server: Server) -> None:
    assert server.create(cluster_placement())["spec"]["namespaces"]["names"] == ["team-*"]


def test_a_status_write_leaves_the_spec_alone_and_shows_in_the_columns(
    server: Server, namespace: str, stored: Callable[[dict[str, Any]], dict[str, Any]], kubectl: Kubectl
) -> None:
    """Printer columns answer "is it fine?": TARGETS, OBJECTS, SYNCED, READY, REASON, AGE."""
    manifest = stored(placement())
    status = {
        "observedGeneration": 1,
        "objects": 7,
        "targetsSummary": "1/2",
        "reason": "TargetNotFound",
        "selectedTargets": [{"name": "east", "uid": "u", "objects": 7, "synced": 7, "unknownField": 1}],
        "conditions": [
            {"type": "Synced", "status": "False", "reason": "TargetNotFound", "message": "west"},
            {"type": "Ready", "status": "Unknown"},
        ],
        "completedRuns": [{"uid": "a", "target": "b"}],
    }
    answer = server.put_status(manifest, status)
    assert answer["spec"] == manifest["spec"]
    assert answer["metadata"]["generation"] == 1
    assert "unknownField" not in answer["status"]["selectedTargets"][0]
    assert Placement.parse(answer).status.completed_runs[0].target == "b"
    heading, row = kubectl("upstream", "get", "pl", "web", "-n", namespace).splitlines()
    assert heading.split() == ["NAME", "TARGETS", "OBJECTS", "SYNCED", "READY", "REASON", "AGE"]
    assert row.split()[:6] == ["web", "1/2", "7", "False", "Unknown", "TargetNotFound"]


def test_short_names_and_the_category_work(
    kubectl: Kubectl, namespace: str, stored: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    stored(placement())
    assert "placement.syncline.io/web" in kubectl("upstream", "get", "syncline", "-n", namespace)
    assert kubectl.attempt("upstream", "get", "st").returncode == 0
    assert kubectl.attempt("upstream", "get", "cpl").returncode == 0
