"""`target add` and `target remove` on real clusters, without an operator."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncer.transform.mark import SourceRef
from tests.support.fleet import Kubectl, wait_until
from tests.syncer.cli.conftest import Result
from tests.syncer.cli.test_app import assert_two_lines

Cli = Callable[..., Result]
SYSTEM = "syncline-system"


@pytest.fixture
def kubeconfig(kubectl: Kubectl, crds: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Kubeconfig of a cluster; $KUBECONFIG is upstream's, and our CRDs are there."""
    monkeypatch.setenv("KUBECONFIG", str(kubectl.fleet.upstream.kubeconfig))
    return lambda cluster: kubectl.fleet.clusters[cluster].kubeconfig


@pytest.fixture
def name(kubectl: Kubectl) -> Iterator[str]:
    """A name for one target of this test alone."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    yield name
    kubectl("upstream", "delete", "synctarget", name, "--ignore-not-found", "--wait=false")


def stored(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """The kubeconfig that lies upstream for a target."""
    secret = kubectl.get("upstream", "secret", name, SYSTEM)
    assert secret is not None
    config: dict[str, Any] = yaml.safe_load(base64.b64decode(secret["data"]["kubeconfig"]))
    return config


def test_adding_a_target_stores_only_an_identity_of_our_own(
    cli: Cli, kubectl: Kubectl, kubeconfig: Callable[[str], Path], name: str, tmp_path: Path
) -> None:
    """B29: token and CA inline, no right beyond syncing; the caller's own credential goes nowhere (S50)."""
    file = kubeconfig("east")
    result = cli("target", "add", name, "--target-kubeconfig", file, "--label", "region=eu", "--no-wait")
    assert (result.code, result.out) == (0, f"Target {name} is stored; the operator connects to it.\n")
    target = kubectl.get("upstream", "synctarget", name)
    assert target is not None
    assert target["metadata"]["labels"] == {"region": "eu"}
    config = stored(kubectl, name)
    assert set(config["users"][0]["user"]) == {"token"}
    assert set(config["clusters"][0]["cluster"]) == {"server", "certificate-authority-data"}
    mine = yaml.safe_load(file.read_text())["users"][0]["user"]
    assert not set(map(str, mine.values())) & set(json.dumps(config).split('"'))
    token = config["users"][0]["user"]["token"]
    assert token not in result.out + result.err

    private = tmp_path / "private.yaml"
    private.write_text(yaml.safe_dump(config))
    answers = {
        question: kubectl.attempt("east", "auth", "can-i", *question.split(), "-A", kubeconfig=private).stdout.strip()
        for question in (
            "create deployments.apps",
            "patch configmaps",
            "create namespaces",
            "list nodes",
            "create clusterroles.rbac.authorization.k8s.io",
            "delete nodes",
            "impersonate users",
            "create pods --subresource=exec",
            "get pods --subresource=log",
        )
    }
    assert list(answers.values()) == ["yes"] * 4 + ["no"] * 5, answers


def test_adding_again_renews_and_keeps_labels_kinds_and_edits(
    cli: Cli, kubectl: Kubectl, kubeconfig: Callable[[str], Path], name: str
) -> None:
    """A lost label could unplace everything; a second call takes nothing away."""
    add = ("target", "add", name, "--target-kubeconfig", kubeconfig("east"), "--no-wait")
    assert cli(*add, "--label", "region=eu", "--allow", "*.shop.example").code == 0
    assert cli("cordon", name).code == 0
    first = stored(kubectl, name)
    assert cli(*add, "--label", "tier=gold").code == 0
    target = kubectl.get("upstream", "synctarget", name)
    assert target is not None
    assert target["metadata"]["labels"] == {"region": "eu", "tier": "gold"}
    assert target["spec"]["resources"]["allow"] == ["*.shop.example"]
    assert target["spec"]["unschedulable"] is True
    assert stored(kubectl, name) == first


def test_the_credential_goes_when_the_target_is_removed(
    cli: Cli, kubectl: Kubectl, kubeconfig: Callable[[str], Path], name: str
) -> None:
    """Also by `kubectl delete synctarget`: the Secret belongs to the SyncTarget."""
    assert cli("target", "add", name, "--target-kubeconfig", kubeconfig("east"), "--no-wait").code == 0
    secret = kubectl.get("upstream", "secret", name, SYSTEM)
    assert secret is not None
    assert secret["metadata"]["ownerReferences"][0]["name"] == name
    result = cli("target", "remove", name)
    assert result.code == 0
    assert f"Target {name} is removed" in result.out
    assert "kubectl delete clusterrolebinding/syncline-" in result.out
    wait_until(lambda: kubectl.get("upstream", "secret", name, SYSTEM) is None, timeout_seconds=60)


def test_removing_with_the_targets_kubeconfig_removes_the_identity_there(
    cli: Cli, kubectl: Kubectl, kubeconfig: Callable[[str], Path], name: str
) -> None:
    assert cli("target", "add", name, "--target-kubeconfig", kubeconfig("west"), "--no-wait").code == 0
    identity = kubectl("west", "-n", SYSTEM, "get", "serviceaccounts", "-o", "name").split()
    ours = next(item for item in identity if "/syncline-" in item).partition("/")[2]
    result = cli("target", "remove", name, "--orphan", "--target-kubeconfig", kubeconfig("west"))
    assert result.code == 0
    assert "keeps running" in result.out
    assert kubectl.get("west", "clusterrole", ours) is None
    assert kubectl.get("west", "clusterrolebinding", ours) is None
    assert kubectl.get("west", "serviceaccount", ours, SYSTEM) is None


def test_a_target_that_nobody_looks_after_is_not_waited_for_in_vain(
    cli: Cli, kubeconfig: Callable[[str], Path], name: str
) -> None:
    result = cli("target", "add", name, "--target-kubeconfig", kubeconfig("east"), "--timeout", "0.5")
    assert result.code == 1
    assert "no operator has looked at it" in result.err or "is not Ready after" in result.err
    assert result.err.splitlines()[-1].startswith("hint: ")


def test_a_caller_with_too_few_rights_on_the_target_is_told_so(
    cli: Cli, kubectl: Kubectl, kubeconfig: Callable[[str], Path], name: str
) -> None:
    kubeconfig("east")
    file = kubectl.fleet.targets["east"].user("nobody-special")
    result = cli("target", "add", name, "--target-kubeconfig", file)
    assert_two_lines(result, 1)
    assert "too few rights" in result.err
    assert "administrator" in result.err


def test_a_caller_with_too_few_rights_upstream_is_told_so(
    cli: Cli, kubectl: Kubectl, kubeconfig: Callable[[str], Path], name: str
) -> None:
    file = kubectl.fleet.upstream.user("nobody-special")
    result = cli("target", "add", name, "--target-kubeconfig", kubeconfig("east"), "--kubeconfig", file)
    assert_two_lines(result, 1)
    assert "403 Forbidden" in result.err
    assert kubectl.get("upstream", "synctarget", name) is None


def test_the_upstream_itself_is_refused(cli: Cli, kubeconfig: Callable[[str], Path], name: str) -> None:
    result = cli("target", "add", name, "--target-kubeconfig", kubeconfig("upstream"))
    assert_two_lines(result, 1)
    assert "upstream cluster itself" in result.err


def test_a_kubeconfig_may_be_stored_as_it_is(
    cli: Cli, kubectl: Kubectl, kubeconfig: Callable[[str], Path], name: str
) -> None:
    file = kubeconfig("east")
    result = cli("target", "add", name, "--target-kubeconfig", file, "--use-kubeconfig-as-is", "--no-wait")
    assert result.code == 0
    assert stored(kubectl, name) == yaml.safe_load(file.read_text())


@pytest.mark.parametrize("fault", ["exec", "file", "skip-verify", "no CA"])
def test_what_the_operator_would_refuse_is_not_stored(
    cli: Cli, kubectl: Kubectl, kubeconfig: Callable[[str], Path], name: str, tmp_path: Path, fault: str
) -> None:
    """B29: the field is named; a plugin may run here, at the caller's desk, but is not stored."""
    config = yaml.safe_load(kubeconfig("east").read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    if fault == "exec":
        credential = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {
                "clientCertificateData": base64.b64decode(user.pop("client-certificate-data")).decode(),
                "clientKeyData": base64.b64decode(user.pop("client-key-data")).decode(),
            },
        }
        (tmp_path / "credential.json").write_text(json.dumps(credential))
        args = [str(tmp_path / "credential.json")]
        user["exec"] = {"apiVersion": credential["apiVersion"], "command": "cat", "args": args}
    elif fault == "file":
        (tmp_path / "key.pem").write_bytes(base64.b64decode(user.pop("client-key-data")))
        user["client-key"] = str(tmp_path / "key.pem")
    elif fault == "skip-verify":
        del cluster["certificate-authority-data"]
        cluster["insecure-skip-tls-verify"] = True
    else:
        del cluster["certificate-authority-data"]
    file = tmp_path / "odd.yaml"
    file.write_text(yaml.safe_dump(config))
    result = cli("target", "add", name, "--target-kubeconfig", file, "--use-kubeconfig-as-is", "--no-wait")
    assert result.code == 1
    field = {"exec": "user.exec", "file": "client-key", "skip-verify": "insecure-skip-tls-verify"}
    assert field.get(fault, "not trusted") in result.err
    assert kubectl.get("upstream", "synctarget", name) is None
    if fault in ("exec", "file"):
        # The same file is fine where Syncline makes an identity of its own.
        assert cli("target", "add", name, "--target-kubeconfig", file, "--no-wait").code == 0
        assert set(stored(kubectl, name)["users"][0]["user"]) == {"token"}


def test_a_rebuilt_upstream_takes_over_what_exists_there_again_and_nothing_else(
    cli: Cli, kubectl: Kubectl, kubeconfig: Callable[[str], Path], name: str, namespace: str
) -> None:
    """Objects without a source would count as deleted; they keep the old mark."""
    old = str(uuid.uuid4())

    def copy(object_name: str) -> dict[str, Any]:
        source = SourceRef(old, old, "v1", "ConfigMap", namespace, object_name, "u", 0).to_json()
        metadata = {
            "name": object_name,
            "namespace": namespace,
            "labels": {"syncline.io/managed-by": old},
            "annotations": {"syncline.io/source": source},
        }
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}

    kubectl("east", "create", "namespace", namespace)
    kubectl.apply("east", copy("both"), copy("gone"))
    kubectl("upstream", "-n", namespace, "create", "configmap", "both")
    file = kubeconfig("east")
    result = cli("target", "add", name, "--target-kubeconfig", file, "--adopt-hub", old, "--no-wait")
    assert result.code == 0
    assert f"took over 1 objects of hub {old}; 1 without a source upstream keep the old mark" in result.err
    upstream = kubectl.get("upstream", "namespace", "kube-system")
    both, gone = (kubectl.get("east", "configmap", object_name, namespace) for object_name in ("both", "gone"))
    assert upstream is not None
    assert both is not None
    assert gone is not None
    assert both["metadata"]["labels"]["syncline.io/managed-by"] == upstream["metadata"]["uid"]
    assert gone["metadata"]["labels"]["syncline.io/managed-by"] == old


def test_everybody_who_may_log_in_may_read_where_the_hub_is_and_nothing_else_there(
    kubectl: Kubectl, kubeconfig: Callable[[str], Path]
) -> None:
    """Else `syncline status` would be for administrators only."""
    kubeconfig("upstream")
    rbac = Path(__file__).parents[3] / "deploy" / "rbac"
    kubectl("upstream", "apply", "--server-side", "--force-conflicts", "-f", str(rbac))
    user = kubectl.fleet.upstream.user("somebody")

    def may(thing: str) -> str:
        return kubectl.attempt("upstream", "auth", "can-i", "get", thing, "-n", SYSTEM, kubeconfig=user).stdout.strip()

    wait_until(lambda: may("configmaps/syncline-hub") == "yes")
    assert [may(thing) for thing in ("configmaps/other", "configmaps", "secrets/east")] == ["no"] * 3
