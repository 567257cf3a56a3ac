"""Roles in deploy/rbac: no wildcards, everything the operator needs, and what people get from view, edit and admin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from syncer.api.policy import WORKLOAD_KINDS
from tests.support.fleet import Kubectl, wait_until

FOLDER = Path(__file__).parents[3] / "deploy" / "rbac"
OPERATOR = "--as=syncline-operator"


def _manifests(file: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(m["kind"], m["metadata"]["name"]): m for m in yaml.safe_load_all((FOLDER / file).read_text())}


@pytest.fixture(scope="module")
def roles(kubectl: Kubectl, crds: None) -> None:
    kubectl("upstream", "apply", "--server-side", "--force-conflicts", "-f", str(FOLDER))


@pytest.mark.parametrize("file", ["operator.yaml", "users.yaml"])
def test_no_role_has_a_wildcard(file: str) -> None:
    for manifest in _manifests(file).values():
        for rule in manifest.get("rules", []):
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_the_operator_reads_and_patches_exactly_the_workload_kinds_and_makes_none() -> None:
    rules = _manifests("operator.yaml")["ClusterRole", "syncline-operator-workloads"]["rules"]
    granted = {(rule["apiGroups"][0], name): set(rule["verbs"]) for rule in rules for name in rule["resources"]}
    plain = {key: verbs for key, verbs in granted.items() if "/" not in key[1]}
    assert set(plain) == {(kind.group, kind.resource) for kind in WORKLOAD_KINDS}
    assert plain.pop(("batch", "jobs")) == {"get", "list", "watch", "patch", "delete"}  # finished ones expire
    assert all(verbs == {"get", "list", "watch", "patch"} for verbs in plain.values())
    assert all(verbs == {"patch"} for key, verbs in granted.items() if "/" in key[1])


@pytest.mark.parametrize(
    "question",
    [
        "patch synctargets",
        "patch placements/status",
        "create synctargets",
        "create clusterregistrations",
        "watch clusterregistrations",
        "list secrets -n syncline-system",
        "list placements",
        "watch deployments.apps",
        "patch deployments.apps/status",
        "patch jobs.batch",
        "delete jobs.batch",
        "get apiservices.apiregistration.k8s.io",
        "create subjectaccessreviews.authorization.k8s.io",
        "patch validatingwebhookconfigurations/syncline.io",
        "delete validatingwebhookconfigurations/syncline.io",
        "create mutatingwebhookconfigurations",
        "create events.events.k8s.io",
        "get customresourcedefinitions",
        "update leases -n syncline-system",
        "patch configmaps -n syncline-system",
        "create secrets -n syncline-system",
        "get configmaps/extension-apiserver-authentication -n kube-system",
    ],
)
def test_the_operator_may(kubectl: Kubectl, roles: None, question: str) -> None:
    """The control plane has aggregated the roles."""
    words = question.split() if " -n " in question else [*question.split(), "-A"]
    wait_until(lambda: kubectl.attempt("upstream", "auth", "can-i", *words, OPERATOR).returncode == 0)


@pytest.mark.parametrize(
    "question",
    [
        "create deployments.apps",
        "delete deployments.apps",
        "create secrets",
        "delete namespaces",
        "patch validatingwebhookconfigurations/other",
        "delete synctargets",
        "create clusterroles",
    ],
)
def test_the_operator_may_not(kubectl: Kubectl, roles: None, question: str) -> None:
    answer = kubectl.attempt("upstream", "auth", "can-i", *question.split(), "-n", "default", OPERATOR)
    assert answer.stdout.strip() == "no"


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("view", "get placements", "create placements"),
        ("edit", "create placements", "create synctargets"),
        ("admin", "delete placements", "use synctargets/east"),
    ],
)
def test_people_get_our_kinds_with_the_roles_of_kubernetes(
    kubectl: Kubectl, roles: None, namespace: str, role: str, may: str, may_not: str
) -> None:
    """Aggregated to view, edit and admin; a right in one namespace never reaches a target."""
    user = f"{role}-{namespace}"
    kubectl("upstream", "create", "rolebinding", user, "-n", namespace, f"--clusterrole={role}", f"--user={user}")

    def can(question: str, *scope: str) -> bool:
        words = ("auth", "can-i", *question.split(), *scope, f"--as={user}")
        return kubectl.attempt("upstream", *words).stdout.strip() == "yes"

    wait_until(lambda: can(may, "-n", namespace))
    assert not can(may_not, *(() if "synctargets" in may_not else ("-n", namespace)))
