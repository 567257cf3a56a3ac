"""`syncer.transform.prune`: only intent travels."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from syncer.api.keys import GroupKind
from syncer.transform import prune
from tests.syncer.transform.builders import CRON_JOB, DEPLOYMENT, JOB, POD, workload

SERVICE = GroupKind("", "Service")
SERVER_METADATA = {
    "uid": "u",
    "resourceVersion": "7",
    "generation": 2,
    "creationTimestamp": "2026-11-21T09:00:00Z",
    "deletionTimestamp": "2026-11-21T09:00:00Z",
    "deletionGracePeriodSeconds": 30,
    "selfLink": "/apis/x",
    "managedFields": [{"manager": "kubectl"}],
    "generateName": "web-",
    "ownerReferences": [{"kind": "Team", "name": "a", "uid": "o"}],
    "finalizers": ["example.com/guard"],
}


def pruned(manifest: dict[str, Any], kind: GroupKind, *, has_status_subresource: bool = True) -> dict[str, Any]:
    """Prune; fails if the input was touched or if pruning twice differs from pruning once."""
    before = deepcopy(manifest)
    after = prune(manifest, kind, has_status_subresource=has_status_subresource)
    assert manifest == before
    assert prune(after, kind, has_status_subresource=has_status_subresource) == after
    return after


def test_server_set_metadata_owners_and_foreign_finalizers_never_travel() -> None:
    """B42, B14: nothing that the upstream server, its collector or its controllers wrote is copied."""
    manifest = workload(replicas=2) | {"status": {"replicas": 2}}
    manifest["metadata"] |= SERVER_METADATA
    manifest["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "deployment.kubernetes.io/revision": "4",
        "team": "front",
    }
    after = pruned(manifest, DEPLOYMENT)
    assert after["metadata"] == {"name": "web", "namespace": "shop", "annotations": {"team": "front"}}
    assert "status" not in after
    assert after["spec"] == manifest["spec"]


def test_marks_of_another_hub_do_not_travel() -> None:
    manifest = workload()
    manifest["metadata"]["labels"] = {"syncline.io/managed-by": "other"}
    manifest["metadata"]["annotations"] = {
        "syncline.io/source": "{}",
        "syncline.io/applied": "x",
        "syncline.io/deletion": "Delete",
    }
    assert pruned(manifest, DEPLOYMENT)["metadata"] == {"name": "web", "namespace": "shop"}


def test_status_is_data_where_the_kind_has_no_status_subresource() -> None:
    manifest = {"apiVersion": "e.com/v1", "kind": "W", "metadata": {"name": "w"}, "status": {"wish": 1}}
    assert pruned(manifest, GroupKind("e.com", "W"), has_status_subresource=False)["status"] == {"wish": 1}


def test_an_object_without_metadata_members_keeps_its_shape() -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {}}, "data": {"a": "b"}}
    assert pruned(manifest, GroupKind("", "ConfigMap"))["data"] == {"a": "b"}


def service(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"}, "spec": spec}


def test_addresses_and_node_ports_of_a_service_stay_upstream() -> None:
    after = pruned(
        service(
            type="LoadBalancer",
            clusterIP="10.0.0.7",
            clusterIPs=["10.0.0.7"],
            ipFamilies=["IPv4"],
            ipFamilyPolicy="SingleStack",
            healthCheckNodePort=31000,
            ports=[{"port": 80, "nodePort": 30080}, {"port": 81}],
        ),
        SERVICE,
    )
    assert after["spec"] == {"type": "LoadBalancer", "ports": [{"port": 80}, {"port": 81}]}


def test_a_headless_service_stays_headless() -> None:
    after = pruned(service(clusterIP="None", clusterIPs=["None"], ipFamilyPolicy="SingleStack"), SERVICE)
    assert after["spec"] == {"clusterIP": "None", "clusterIPs": ["None"]}


def test_a_dual_stack_wish_travels() -> None:
    wish = {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}
    assert pruned(service(**wish), SERVICE)["spec"] == wish


@pytest.mark.parametrize("prefix", ["", "batch.kubernetes.io/"])
def test_generated_labels_and_selector_of_a_job_stay_upstream(prefix: str) -> None:
    labels = {f"{prefix}controller-uid": "u", f"{prefix}job-name": "web", "mine": "1"}
    manifest = workload("Job", "batch/v1", selector={"matchLabels": labels}, ttlSecondsAfterFinished=5, completions=1)
    manifest["metadata"]["labels"] = dict(labels)
    manifest["spec"]["template"]["metadata"]["labels"] = dict(labels)
    after = pruned(manifest, JOB)
    assert after["metadata"]["labels"] == {"mine": "1"}
    assert after["spec"]["template"]["metadata"]["labels"] == {"mine": "1"}
    assert after["spec"].keys() == {"completions", "template"}


def test_a_manual_job_selector_is_the_users_own() -> None:
    manifest = workload("Job", "batch/v1", selector={"matchLabels": {"job-name": "x"}}, manualSelector=True)
    manifest["spec"]["template"]["metadata"]["labels"] = {"job-name": "x"}
    assert pruned(manifest, JOB)["spec"] == manifest["spec"]


def test_a_pod_loses_its_node_its_token_volume_and_what_admission_gave_it() -> None:
    token = {"name": "kube-api-access-x2x4z", "projected": {"sources": []}}
    token_mount = {"name": "kube-api-access-x2x4z", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    own_mount = {"name": "config", "mountPath": "/etc/app"}
    manifest = workload(
        "Pod",
        "v1",
        containers=[
            {"name": "a", "volumeMounts": [own_mount, token_mount]},
            {"name": "b", "volumeMounts": [token_mount]},
        ],
        initContainers=[{"name": "i", "volumeMounts": [token_mount]}],
        volumes=[{"name": "config", "configMap": {"name": "c"}}, token],
        tolerations=[
            {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for what in ("not-ready", "unreachable")
        ],
        nodeName="node-1",
        priority=1000,
        preemptionPolicy="PreemptLowerPriority",
        priorityClassName="high",
        ephemeralContainers=[{"name": "debug"}],
    )
    assert pruned(manifest, POD)["spec"] == {
        "containers": [{"name": "a", "volumeMounts": [own_mount]}, {"name": "b"}],
        "initContainers": [{"name": "i"}],
        "volumes": [{"name": "config", "configMap": {"name": "c"}}],
        "priorityClassName": "high",
    }


def test_default_tolerations_stay_beside_the_users_own_in_their_atomic_list() -> None:
    """Admission would add them again, and the list would differ from the rendered one for ever."""
    defaults = {
        "key": "node.kubernetes.io/not-ready",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 300,
    }
    both = [{"key": "gpu", "operator": "Exists"}, defaults]
    assert pruned(workload("Pod", "v1", tolerations=both), POD)["spec"]["tolerations"] == both


def test_a_toleration_time_of_the_users_own_travels() -> None:
    toleration = {
        "key": "node.kubernetes.io/not-ready",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 10,
    }
    assert pruned(workload("Pod", "v1", tolerations=[toleration]), POD)["spec"]["tolerations"] == [toleration]


def test_where_a_claim_was_bound_stays_upstream() -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "d",
            "annotations": {"volume.kubernetes.io/selected-node": "n", "pv.kubernetes.io/bind-completed": "yes"},
        },
        "spec": {"volumeName": "pv-1", "storageClassName": "fast"},
    }
    after = pruned(manifest, GroupKind("", "PersistentVolumeClaim"))
    assert (after["metadata"], after["spec"]) == ({"name": "d"}, {"storageClassName": "fast"})


def test_the_identity_of_a_volumes_claim_stays_upstream() -> None:
    claim = {"name": "d", "namespace": "shop", "uid": "u", "resourceVersion": "1"}
    manifest = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "p"}, "spec": {"claimRef": claim}}
    after = pruned(manifest, GroupKind("", "PersistentVolume"))
    assert after["spec"]["claimRef"] == {"name": "d", "namespace": "shop"}


def test_generated_secrets_of_a_service_account_stay_upstream() -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "bot"},
        "secrets": [{"name": "bot-token-abcde"}],
        "imagePullSecrets": [{"name": "bot-dockercfg-1"}, {"name": "regcred"}],
    }
    after = pruned(manifest, GroupKind("", "ServiceAccount"))
    assert "secrets" not in after
    assert after["imagePullSecrets"] == [{"name": "regcred"}]


def test_null_timestamps_inside_templates_do_not_travel() -> None:
    cron = workload("CronJob", "batch/v1")
    cron["spec"]["jobTemplate"]["metadata"] = {"creationTimestamp": None}
    cron["spec"]["jobTemplate"]["spec"]["template"]["metadata"] = {"creationTimestamp": None, "labels": {"a": "b"}}
    after = pruned(cron, CRON_JOB)["spec"]["jobTemplate"]
    assert (after["metadata"], after["spec"]["template"]["metadata"]) == ({}, {"labels": {"a": "b"}})
    claims = [{"metadata": {"name": "d", "creationTimestamp": None}, "status": {"phase": "Pending"}}]
    after = pruned(workload("StatefulSet", volumeClaimTemplates=claims), GroupKind("apps", "StatefulSet"))
    assert after["spec"]["volumeClaimTemplates"] == [{"metadata": {"name": "d"}, "status": {"phase": "Pending"}}]


def test_a_namespace_spec_of_finalizers_disappears() -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop"},
        "spec": {"finalizers": ["kubernetes"]},
    }
    assert "spec" not in pruned(manifest, GroupKind("", "Namespace"))


@pytest.mark.parametrize("kind", ["Service", "Pod", "PersistentVolume", "ServiceAccount"])
@pytest.mark.parametrize("spec", [None, "text", [], {}])
def test_a_spec_of_the_wrong_shape_is_left_for_the_server_to_refuse(kind: str, spec: Any) -> None:
    manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec, "secrets": "text"}
    after = pruned(manifest, GroupKind("", kind))
    assert after.get("spec", {}) == spec or spec is None


def test_the_gathered_rules_of_an_aggregated_role_stay_upstream() -> None:
    kind = GroupKind("rbac.authorization.k8s.io", "ClusterRole")
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    manifest = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "r"},
        "rules": [rule],
    }
    assert pruned(manifest, kind)["rules"] == [rule]
    assert "rules" not in pruned(manifest | {"aggregationRule": {"clusterRoleSelectors": []}}, kind)
