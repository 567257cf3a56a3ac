"""`doctor`: what it says of installations that are fine, sick, or not there. The real one is in tests/e2e."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import trustme

from syncer.api.crds import KINDS, crd
from syncer.cli.doctor import Finding, as_text, judge_authority, judge_crd, judge_lease, judge_target, lacking_fields
from tests.syncer.cli.conftest import FakeServer, Result

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
API = "/apis/syncline.io/v1alpha1"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/syncline-system/leases/syncline-operator"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/syncline.io"
ESTABLISHED = {"conditions": [{"type": "Established", "status": "True"}]}
NOW = datetime(2026, 1, 1, tzinfo=UTC)

Cli = Callable[..., Result]


def installed(**metadata: Any) -> dict[str, Any]:
    """The CRD of SyncTarget as a server shows it."""
    made = crd(KINDS[0])
    return {**made, "metadata": {**made["metadata"], **metadata}, "status": ESTABLISHED}


def target(name: str, *conditions: tuple[str, str, str, str]) -> dict[str, Any]:
    found = [{"type": t, "status": s, "reason": r, "message": m} for t, s, r, m in conditions]
    return {"metadata": {"name": name}, "status": {"conditions": found, "kubernetesVersion": "v1.36.4"}}


READY = ("Ready", "True", "Ready", "")


@pytest.fixture
def healthy(upstream: FakeServer, hub: FakeServer) -> FakeServer:
    """An upstream at which nothing is wrong."""
    authority = base64.b64encode(trustme.CA().cert_pem.bytes()).decode()
    renewed = datetime.now(UTC).isoformat()
    upstream.routes |= {f"{CRDS}/{kind.plural}.syncline.io": {**crd(kind), "status": ESTABLISHED} for kind in KINDS}
    upstream.routes |= {
        "/version": {"gitVersion": "v1.36.4"},
        LEASE: {"spec": {"holderIdentity": "a", "renewTime": renewed, "leaseDurationSeconds": 15}},
        WEBHOOKS: {
            "webhooks": [
                {
                    "name": "validate.webhooks.syncline.io",
                    "clientConfig": {"url": "https://op.example/validate", "caBundle": authority},
                }
            ]
        },
        f"{API}/synctargets": {"items": [target("east", READY)]},
    }
    hub.routes["/api/v1/problems"] = {"items": []}
    return upstream


def found(cli: Cli) -> tuple[int, dict[str, tuple[str, str, str]]]:
    """Exit code, and the findings by check."""
    done = cli("doctor", "-o", "json")
    data = json.loads(done.out)
    assert data["healthy"] is (done.code == 0)
    return done.code, {f["check"]: (f["state"], f["message"], f["fix"]) for f in data["findings"]}


def test_a_healthy_installation_has_nothing_to_mend(cli: Cli, healthy: FakeServer) -> None:
    code, findings = found(cli)
    assert code == 0
    assert {state for state, _, _ in findings.values()} == {"ok"}
    assert set(findings) == {"upstream", "CRDs", "hub", "objects", "leader", "webhooks", "targets"}
    (probe,) = [asked for asked in healthy.asked if asked.method == "POST"]
    assert probe.query == {"dryRun": ["All"]}
    assert "Everything is in order." in cli("doctor").out


def test_what_is_not_in_sync_is_counted_and_an_acting_upstream_is_an_error(
    cli: Cli, healthy: FakeServer, hub: FakeServer
) -> None:
    problem = {"object": "apps/v1/Deployment/shop/web", "reason": "UpstreamControllerActive", "message": "it acts"}
    hub.routes["/api/v1/problems"] = {"items": [problem, {"reason": "Invalid"}]}
    code, findings = found(cli)
    assert code == 1
    assert findings["workloads"][:2] == ("error", "apps/v1/Deployment/shop/web: it acts")
    assert "spec.manifests" in findings["workloads"][2]
    assert findings["objects"][:2] == ("warning", "2 things are not in sync, first UpstreamControllerActive")


def test_without_crds_it_says_how_to_install_them_and_stops(cli: Cli, healthy: FakeServer) -> None:
    for kind in KINDS:
        del healthy.routes[f"{CRDS}/{kind.plural}.syncline.io"]
    healthy.routes |= {"/apis/apps/v1/deployments": {"items": []}, "/api/v1/namespaces": {"items": []}}
    code, findings = found(cli)
    assert code == 1
    assert set(findings) == {"upstream", "CRDs"}
    assert "syncline crds | kubectl apply" in findings["CRDs"][2]


def test_the_cluster_of_the_operator_is_not_its_upstream(cli: Cli, healthy: FakeServer) -> None:
    del healthy.routes[f"{CRDS}/placements.syncline.io"]
    operator = {"metadata": {"namespace": "syncline-system", "name": "syncline-operator"}}
    healthy.routes |= {"/apis/apps/v1/deployments": {"items": [operator]}, "/api/v1/namespaces": {"items": []}}
    _, findings = found(cli)
    assert "its upstream is another API server" in findings["context"][1]
    assert "syncline kubeconfig --upstream" in findings["context"][2]


def test_a_target_is_not_an_upstream(cli: Cli, healthy: FakeServer) -> None:
    del healthy.routes[f"{CRDS}/placements.syncline.io"]
    shop = {"metadata": {"name": "shop"}}
    healthy.routes |= {"/apis/apps/v1/deployments": {"items": []}, "/api/v1/namespaces": {"items": [shop]}}
    _, findings = found(cli)
    assert "this cluster is a target (namespace shop" in findings["context"][1]


def test_placements_where_no_operator_ever_was_are_in_the_wrong_context(cli: Cli, healthy: FakeServer) -> None:
    del healthy.routes["/api/v1/namespaces/syncline-system/configmaps/syncline-hub"]
    healthy.routes |= {
        f"{API}/placements": {"items": [{"metadata": {"name": "web"}}]},
        f"{API}/clusterplacements": {"items": []},
    }
    code, findings = found(cli)
    assert code == 1
    assert "1 placements were applied here (first web)" in findings["context"][1]
    assert "wrong context" in findings["context"][2]


def test_a_silent_hub_is_told_and_the_rest_is_looked_at(cli: Cli, healthy: FakeServer) -> None:
    healthy.routes["/api/v1/namespaces/syncline-system/configmaps/syncline-hub"]["data"] |= {
        "url": "https://127.0.0.1:1",
        "version": "0.0.1",
    }
    code, findings = found(cli)
    assert code == 1
    assert findings["hub"][0] == "error"
    assert "cannot be reached" in findings["hub"][1]
    assert findings["versions"][0] == "warning"
    assert "the operator is 0.0.1" in findings["versions"][1]
    assert findings["targets"][0] == "ok"


@pytest.mark.parametrize(
    ("status", "reason", "state"),
    [(500, "InternalError", "error"), (403, "Forbidden", "ok"), (409, "AlreadyExists", "ok")],
)
def test_webhooks_are_tried_by_a_dry_run(cli: Cli, healthy: FakeServer, status: int, reason: str, state: str) -> None:
    """A request that reaches no webhook fails with 500, whoever asks."""
    message = 'failed calling webhook "validate.webhooks.syncline.io": connection refused'
    answer = (status, {"kind": "Status", "code": status, "reason": reason, "message": message})
    healthy.routes[f"{API}/synctargets"] = [{"items": [target("east", READY)]}, answer]
    # The dry run comes first; the list of targets follows.
    healthy.routes[f"{API}/synctargets"].reverse()
    _, findings = found(cli)
    assert findings["webhooks"][0] == state
    assert ("connection refused" in findings["webhooks"][1]) is (state == "error")


def test_what_may_not_be_read_is_doubtful_and_not_wrong(cli: Cli, healthy: FakeServer) -> None:
    forbidden = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"}
    healthy.routes[LEASE] = (403, forbidden)
    code, findings = found(cli)
    assert code == 0
    assert findings["leader"][0] == "warning"
    assert "administrator" in findings["leader"][2]


# The rules


def test_a_crd_is_judged() -> None:
    name, ours = "synctargets.syncline.io", crd(KINDS[0])
    assert judge_crd(name, ours, installed()) is None
    assert "is not installed" in told(judge_crd(name, ours, None))
    assert "is being deleted" in told(judge_crd(name, ours, installed(deletionTimestamp="2026-01-01T00:00:00Z")))
    assert "is not served" in told(judge_crd(name, ours, {**installed(), "status": {}}))
    older = copy.deepcopy(installed())
    del older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["taints"]
    assert "it lacks spec.taints" in told(judge_crd(name, ours, older))


def told(finding: Finding | None) -> str:
    assert finding is not None
    assert finding.fix
    return finding.message


def test_fields_are_looked_for_in_lists_too() -> None:
    ours: dict[str, Any] = {"properties": {"a": {"items": {"properties": {"b": {}, "c": {}}}}}}
    theirs: dict[str, Any] = {"properties": {"a": {"items": {"properties": {"b": {}}}}, "more": {}}}
    assert list(lacking_fields(ours, theirs)) == ["a[].c"]


@pytest.mark.parametrize(
    ("spec", "state", "says"),
    [
        (None, "warning", "there is no Lease"),
        ({"holderIdentity": ""}, "error", "gave its Lease back"),
        ({"holderIdentity": "a", "renewTime": "2026-01-01T00:00:00Z"}, "ok", "a leads"),
        ({"holderIdentity": "a", "renewTime": "2025-12-31T23:59:00Z"}, "error", "has not renewed its Lease for 1m"),
        ({"holderIdentity": "a"}, "error", "nobody leads"),
    ],
)
def test_a_lease_is_judged(spec: dict[str, Any] | None, state: str, says: str) -> None:
    finding = judge_lease(spec, NOW.timestamp())
    assert finding.state == state
    assert says in finding.message


def test_the_authority_of_webhooks_is_judged() -> None:
    bundle = trustme.CA().cert_pem.bytes()
    assert judge_authority(bundle, datetime.now(UTC)) is None
    late = NOW.replace(year=9999)
    assert "expired" in told(judge_authority(bundle, late))
    assert "no certificate" in told(judge_authority(b"", NOW))


def test_a_target_is_judged() -> None:
    assert judge_target(target("east", READY)).state == "ok"
    away = judge_target(target("east", ("Ready", "False", "TargetNotReady", "no answer")))
    assert (away.state, "no answer" in away.message) == ("error", True)
    frozen = judge_target(target("east", READY, ("Frozen", "True", "Frozen", "12 deletes wait")))
    assert (frozen.state, "syncline ack" in frozen.fix) == ("warning", True)
    assert "wrong context" in judge_target({"metadata": {"name": "east"}}).fix


def test_people_read_the_fix_below_the_fault() -> None:
    text = as_text([Finding("CRDs", "ok", "fine"), Finding("hub", "error", "silent", "start it")])
    assert text.splitlines()[1:3] == ["✗   hub    silent", "      fix: start it"]
    assert text.splitlines()[-1] == "1 to mend, 0 to look at."
