"""`upstream certificates`, `install` and `wait` on a real API server; the pure part is in tests/syncer/hub."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from deploy.local.fleet import Fleet
from tests.support.operator import ROOT
from tests.syncer.cli.conftest import FakeServer, Result

Cli = Callable[..., Result]


def test_secrets_are_written_once_and_only_what_is_lost_again(fleet: Fleet, namespace: str, cli: Cli) -> None:
    config = fleet.clusters["east"].kubeconfig
    fleet.kubectl("east", "create", "namespace", namespace)
    run = ("upstream", "certificates", "-n", namespace, "--kubeconfig", config)
    first = cli(*run)
    assert first.code == 0, first.err
    assert "syncline-upstream-ca" in first.out
    assert "syncline-upstream-admin" in first.out
    before = _secrets(fleet, namespace)
    again = cli(*run)
    assert (again.code, again.out) == (0, "nothing is due\n")
    fleet.kubectl("east", "delete", "secret", "syncline-upstream-operator", "-n", namespace)
    assert cli(*run).out == "written: syncline-upstream-operator\n"
    after = _secrets(fleet, namespace)
    assert after.keys() == before.keys()
    kept = [name for name in before if before[name]["metadata"]["uid"] == after[name]["metadata"]["uid"]]
    assert len(kept) == len(before) - 1
    printed = cli("kubeconfig", "--upstream", "-n", namespace, "--kubeconfig", config)
    assert printed.code == 0, printed.err
    assert f"server: https://syncline-upstream.{namespace}.svc:6443" in printed.out


def _secrets(fleet: Fleet, namespace: str) -> dict[str, Any]:
    found: subprocess.CompletedProcess[str] = fleet.kubectl("east", "get", "secrets", "-n", namespace, "-o", "json")
    return {item["metadata"]["name"]: item for item in orjson.loads(found.stdout)["items"]}


def test_kinds_and_rights_are_applied_again_and_again(fleet: Fleet, cli: Cli, tmp_path: Path) -> None:
    """And an operator of another release waits for its own."""
    config = fleet.upstream.kubeconfig
    run = ("upstream", "install", "--kubeconfig", config, "--manifests", ROOT / "deploy" / "rbac")
    for _ in range(2):
        done = cli(*run)
        assert done.code == 0, done.err
        assert "applied: CustomResourceDefinition/placements.syncline.io" in done.out
        assert "applied: ClusterRole/syncline-operator" in done.out
    assert cli("upstream", "wait", "--kubeconfig", config).code == 0
    rights = ("--manifests", ROOT / "deploy" / "rbac")
    assert cli("upstream", "wait", "--kubeconfig", config, *rights).code == 0
    newer = tmp_path / "rbac"
    newer.mkdir()
    text = (ROOT / "deploy" / "rbac" / "operator.yaml").read_text()
    (newer / "operator.yaml").write_text(text.replace("verbs: [get, list, watch, patch]", "verbs: [get, list]"))
    behind = cli("upstream", "wait", "--kubeconfig", config, "--manifests", newer, "--timeout", "0.2")
    assert behind.code == 1
    assert "kinds and rights of this release are not applied yet" in behind.err


def test_an_upstream_that_lacks_kinds_or_rights_is_waited_for(cli: Cli, upstream: FakeServer) -> None:
    """The operator's Pod starts behind this; the last word says what was missing."""
    done = cli("upstream", "wait", "--context", "up", "--timeout", "0.2")
    assert done.code == 1
    assert "not ready within 0.2 s" in done.err
    assert "kube-system" in done.err
    upstream.routes["/api/v1/namespaces/kube-system"] = {"metadata": {"uid": "u"}}
    assert "synctargets" in cli("upstream", "wait", "--context", "up", "--timeout", "0.2").err


def test_an_authority_that_cannot_sign_is_told_and_kept(cli: Cli, upstream: FakeServer, tmp_path: Path) -> None:
    broken = {"tls.crt": base64.b64encode(b"SECRET-VALUE").decode(), "tls.key": "!"}
    upstream.routes["/api/v1/namespaces/shop/secrets/syncline-upstream-ca"] = {"metadata": {}, "data": broken}
    done = cli("upstream", "certificates", "-n", "shop", "--context", "up")
    assert done.code == 1
    assert done.err.startswith("error: Secret syncline-upstream-ca: ")
    assert "SECRET-VALUE" not in done.err
    assert not [asked for asked in upstream.asked if asked.method != "GET"]


def test_an_upstream_that_does_not_answer_is_waited_for_and_named(cli: Cli, upstream: FakeServer) -> None:
    upstream.routes["/version"] = (503, {"kind": "Status", "code": 503, "message": "starting"})
    done = cli("upstream", "install", "--timeout", "0")
    assert done.code == 1
    assert "was not ready within 0 s" in done.err


def test_a_file_of_something_else_is_named(cli: Cli, upstream: FakeServer, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "values.yaml").write_text("a: 1\n")
    done = cli("upstream", "install", "--manifests", folder)
    assert done.code == 1
    assert "values.yaml holds something else than manifests" in done.err
    (folder / "values.yaml").write_text("{kind: Deployment, metadata: {name: web}}\n")
    done = cli("upstream", "install", "--manifests", folder)
    assert (done.code, "values.yaml: Deployment is nothing that this installs" in done.err) == (1, True)


def test_a_folder_without_manifests_is_an_error(cli: Cli, upstream: FakeServer, tmp_path: Path) -> None:
    """A misspelt one would bring no rights, and say nothing."""
    done = cli("upstream", "install", "--manifests", tmp_path / "rbca")
    assert done.code == 1
    assert "rbca: no *.yaml files there" in done.err
    assert not upstream.asked
