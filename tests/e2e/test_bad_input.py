"""What users get wrong, through the whole installation: every answer names the fault and says what to do next."""

from __future__ import annotations

import http
import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.manifests import CONFIG_MAPS, DEPLOYMENTS, config_map, deployment, placement
from tests.support.fleet import wait_until
from tests.support.operator import Installation, condition


def told(installation: Installation, room: str, *words: str, seconds: float = 15) -> str:
    """What `syncline status` says once it names all the words; it must fail and advise."""

    def said() -> str:
        done = installation.syncline("status", "-n", room)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "What to do:" in done.stdout
        for word in words:
            assert word in done.stdout, done.stdout
        return done.stdout

    return wait_until(said, timeout_seconds=seconds, every_seconds=0.3)


def test_a_typo_in_a_kind_is_warned_of_and_reported_with_a_suggestion(installation: Installation, room: str) -> None:
    """B01, B24: kubectl prints the warning at once; the placement says the same."""
    typo = placement(room, "typo", ["east"], {"apiVersion": "apps/v1", "kind": "Deploymnt", "names": ["*"]})
    applied = installation.kubectl.attempt("upstream", "apply", "-f", "-", stdin=json.dumps(typo))
    assert applied.returncode == 0
    assert "did you mean Deployment?" in applied.stderr
    told(installation, room, "APIMissing", "did you mean", "install the CRD")
    listed = installation.must("get", "placements", "-n", room)
    assert "APIMissing" in listed
    stored = installation.api["upstream"].get("placement", room, "typo")
    assert [condition(stored, kind)["status"] for kind in ("Synced", "Ready")] == ["False", "False"]


def test_a_misspelt_field_is_refused_with_its_path(installation: Installation, room: str) -> None:
    """B01: kubectl asks for strict fields."""
    wrong = placement(room, "wrong", ["east"])
    wrong["spec"]["replics"] = {"mode": "Duplicate"}
    applied = installation.kubectl.attempt("upstream", "apply", "-f", "-", stdin=json.dumps(wrong))
    assert applied.returncode != 0
    assert "spec.replics" in applied.stderr


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"targets": {}}, "targets"),
        ({"targets": {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Inn"}]}}}, "operator"),
        ({"targets": {"names": ["East/../x"]}}, "targets.names"),
        ({"transforms": [{"jsonPatch": [{"op": "replace", "path": "/metadata/name", "value": "x"}]}]}, "transforms"),
        ({"resources": [{"apiVersion": "v1", "kind": "Node", "names": ["*"]}]}, "resources"),
        ({"dependencies": True}, "NotYetSupported"),
    ],
)
def test_a_wrong_placement_is_refused_at_once(
    installation: Installation, room: str, spec: dict[str, Any], word: str
) -> None:
    """B03, B04, B05, B11, B17, B18: nothing is stored, and the answer names the path."""
    wrong = placement(room, "wrong", ["east"])
    wrong["spec"] |= spec
    applied = installation.kubectl.attempt("upstream", "apply", "-f", "-", stdin=json.dumps(wrong))
    assert applied.returncode != 0, applied.stdout
    assert word in applied.stderr
    assert installation.api["upstream"].get("placement", room, "wrong") is None


def test_a_missing_target_and_a_missing_secret_are_named(installation: Installation, room: str) -> None:
    """B02, MissingReference: the rest is synced all the same; status, explain and Events tell."""
    web = deployment(room, "web", 1, envFrom=[{"secretRef": {"name": "regcred"}}])
    wanted = placement(room, "all", ["east", "nowhere"], DEPLOYMENTS)
    applied = installation.kubectl.attempt("upstream", "apply", "-f", "-", stdin=json.dumps(wanted))
    assert "TargetNotFound: nowhere" in applied.stderr
    installation.kubectl.apply("upstream", web)
    wait_until(lambda: installation.api["east"].get("deployment", room, "web"))
    told(installation, room, "TargetNotFound", "nowhere", "MissingReference", f"v1/Secret/{room}/regcred")
    explained = installation.must("explain", "deploy/web", "-n", room)
    assert "nowhere" in explained
    assert f"MissingReference: v1/Secret/{room}/regcred" in explained
    assert "add it to spec.resources" in explained
    events = wait_until(lambda: installation.events(room, "MissingReference"))
    assert {event["involvedObject"]["kind"] for event in events} == {"Deployment", "Placement"}


def test_a_wrong_image_is_told_upstream_with_its_reason(installation: Installation, room: str) -> None:
    """Done-when 8: in the Deployment's condition, as an Event, and by status and pods; gone when it is corrected."""
    api, kubectl = installation.api, installation.kubectl
    kubectl.apply("upstream", deployment(room, "web", 2), placement(room, "all", ["east", "west"]))
    wait_until(lambda: (api["upstream"].get("deployment", room, "web") or {})["status"].get("readyReplicas") == 4)
    kubectl("upstream", "-n", room, "set", "image", "deploy/web", "main=nginx:no-such-tag")
    said = told(installation, room, "ImagePullBackOff", "nginx:no-such-tag", "Check the image name", seconds=25)
    assert "MissingReference" not in said
    conditions = api["upstream"].get("deployment", room, "web")["status"]["conditions"]  # type: ignore[index]
    assert any("ImagePullBackOff" in found["message"] and "east" in found["message"] for found in conditions)
    assert wait_until(lambda: installation.events(room, "ImagePullBackOff"))
    assert "ImagePullBackOff" in installation.must("status", "deploy/web", "-n", room)
    pods = installation.must("pods", "deploy/web", "-n", room)
    assert pods.count("ImagePullBackOff") >= 3
    assert pods.count("Running") == 4  # of the former image, on both targets
    assert "Check the image name" in pods
    waited = kubectl.attempt("upstream", "-n", room, "rollout", "status", "deploy/web", "--timeout=1s")
    assert waited.returncode != 0
    kubectl("upstream", "-n", room, "set", "image", "deploy/web", "main=nginx:1.29")
    kubectl("upstream", "-n", room, "rollout", "status", "deploy/web", "--timeout=30s")
    wait_until(lambda: "Everything is in sync." in installation.syncline("status", "-n", room).stdout)


def test_what_targets_deny_is_told_in_their_own_words_and_tried_again(installation: Installation, room: str) -> None:
    """A quota in the east, a policy in the west: no right is missing; once they are gone, the object is there."""
    api, kubectl = installation.api, installation.kubectl
    kubectl.apply("upstream", config_map(room, "first"), placement(room, "all", ["east", "west"]))
    for target in ("east", "west"):
        wait_until(lambda target=target: api[target].get("configmap", room, "first"))  # type: ignore[misc]
    held = len(api["east"].items("configmap", room))
    kubectl("east", "-n", room, "create", "quota", "small", f"--hard=count/configmaps={held}")
    wait_until(lambda: kubectl.get("east", "quota", "small", room)["status"].get("used"))  # type: ignore[index]
    kubectl.apply("west", *policy(room, "object.metadata.name != 'second'", "the west takes no such thing"))
    try:
        trial = ("-n", room, "create", "configmap", "second", "--dry-run=server")
        wait_until(lambda: "no such thing" in kubectl.attempt("west", *trial).stderr, timeout_seconds=30)
        kubectl.apply("upstream", config_map(room, "second"))
        words = ("exceeded quota: small", f"limited: count/configmaps={held}", "the west takes no such thing")
        said = told(installation, room, "AdmissionDenied", *words)
        assert "target add" not in said  # no right would help
    finally:
        kubectl("west", "delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", room)
    kubectl("east", "-n", room, "delete", "quota", "small")
    for target in ("east", "west"):
        wait_until(lambda target=target: api[target].get("configmap", room, "second"), timeout_seconds=100)  # type: ignore[misc]


def policy(room: str, expression: str, message: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A ValidatingAdmissionPolicy for ConfigMaps of a namespace, and its binding."""
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}]
    selector = {"matchLabels": {"kubernetes.io/metadata.name": room}}
    common = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": room}}
    constraints = {"namespaceSelector": selector, "resourceRules": rules}
    validations = [{"expression": expression, "message": message}]
    return (
        common
        | {
            "kind": "ValidatingAdmissionPolicy",
            "spec": {"matchConstraints": constraints, "validations": validations},
        },
        common
        | {
            "kind": "ValidatingAdmissionPolicyBinding",
            "spec": {"policyName": room, "validationActions": ["Deny"]},
        },
    )


def test_a_kubeconfig_that_points_nowhere_is_told_and_retried(installation: Installation, tmp_path: Path) -> None:
    """The SyncTarget says Unreachable; get targets, status and describe show it; removing it needs no other way."""
    config = json.loads(installation.fleet.targets["east"].kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    lost = tmp_path / "lost.kubeconfig"
    lost.write_text(json.dumps(config))
    refused = installation.syncline("target", "add", "lost", "--target-kubeconfig", str(lost))
    assert refused.returncode == 1
    assert "127.0.0.1:9" in refused.stderr
    assert "hint" in refused.stderr.lower()
    secret = {"kubeconfig": lost.read_text()}
    name = {"name": "lost", "namespace": "syncline-system"}
    reference = {"connection": {"direct": {"kubeconfigSecretRef": name | {"key": "kubeconfig"}}}}
    target = {"apiVersion": "syncline.io/v1alpha1", "kind": "SyncTarget", "metadata": {"name": "lost"}}
    installation.kubectl.apply(
        "upstream",
        {"apiVersion": "v1", "kind": "Secret", "metadata": name, "stringData": secret},
        target | {"spec": reference},
    )
    try:
        ready = wait_until(lambda: installation.target_condition("lost"), timeout_seconds=20)
        assert ready["status"] != "True"
        wait_until(lambda: installation.target_condition("lost")["reason"] == "Unreachable", timeout_seconds=30)
        assert "Unreachable" in installation.must("get", "targets")
        done = installation.syncline("status")
        assert done.returncode == 1
        assert "SyncTarget/lost" in done.stdout
        assert "kubectl describe synctarget" in done.stdout
    finally:
        installation.syncline("target", "remove", "lost", "--orphan")
    assert installation.api["upstream"].get("synctarget", "", "lost") is None


def test_five_thousand_labels_are_answered_and_stop_nobody(installation: Installation, room: str) -> None:
    """B09: 5,000 labels are synced, or refused with a reason; the next object is synced as ever."""
    crowd = config_map(room, "crowd", {f"label-{number}": "x" for number in range(5000)}, k="1")
    installation.api["upstream"].create("configmap", room, crowd)
    installation.kubectl.apply("upstream", placement(room, "all", ["east"], CONFIG_MAPS))
    installation.kubectl.apply("upstream", config_map(room, "next", k="1"))
    wait_until(lambda: installation.api["east"].get("configmap", room, "next"), timeout_seconds=5)

    def answered() -> bool:
        found = installation.api["east"].get("configmap", room, "crowd")
        if found is not None:
            return len(found["metadata"]["labels"]) == 5001
        return "ConfigMap/crowd" in installation.syncline("status", "-n", room).stdout

    wait_until(answered)


def test_invalid_settings_end_with_one_cause_and_one_hint(installation: Installation, tmp_path: Path) -> None:
    """B38: exit status 2, no traceback, nothing started."""
    settings = tmp_path / "settings.yaml"
    settings.write_text("http-bind: [unclosed")
    done = installation.syncline("operator", "--config", str(settings), timeout_seconds=20)
    assert done.returncode == 2
    assert "invalid YAML" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2
    assert "Traceback" not in done.stderr


def test_an_upstream_that_is_not_there_ends_the_operator_with_a_hint(
    installation: Installation, tmp_path: Path
) -> None:
    """A kubeconfig that points nowhere, on the operator's own side."""
    config = json.loads(installation.fleet.upstream.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    lost = tmp_path / "lost.kubeconfig"
    lost.write_text(json.dumps(config))
    options = ("--http-bind", "127.0.0.1:0", "--hub-bind", "127.0.0.1:0")
    done = installation.syncline("operator", "--kubeconfig", str(lost), *options, timeout_seconds=40)
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "check that it runs" in done.stderr
    assert "Traceback" not in done.stderr


def test_who_may_not_use_a_target_may_not_place_there(installation: Installation, room: str) -> None:
    """A plain user with all rights in the namespace needs verb `use` on the target; with it the same is accepted."""
    kubectl, alice = installation.kubectl, installation.fleet.upstream.user("alice")
    rights = [
        "create",
        "role",
        "placer",
        "-n",
        room,
        "--verb=get,list,create,patch",
        "--resource=placements.syncline.io",
    ]
    kubectl("upstream", *rights, "--resource=configmaps")
    kubectl("upstream", "create", "rolebinding", "placer", "-n", room, "--role=placer", "--user=alice")
    kubectl.apply("upstream", config_map(room, "a", k="1"))
    wanted = json.dumps(placement(room, "mine", ["east"], CONFIG_MAPS))
    refused = kubectl.attempt("upstream", "apply", "-f", "-", stdin=wanted, kubeconfig=alice)
    assert refused.returncode != 0
    assert 'user "alice" may not use synctargets.syncline.io/east' in refused.stderr
    role = f"use-{room}"
    assert "ClusterRole" in refused.stderr
    rule = {"apiGroups": ["syncline.io"], "resources": ["synctargets"], "resourceNames": ["east"], "verbs": ["use"]}
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": role}}
    kubectl.apply("upstream", rbac | {"rules": [rule]})
    kubectl("upstream", "create", "clusterrolebinding", role, f"--clusterrole={role}", "--user=alice")
    try:

        def accepted() -> bool:
            done = kubectl.attempt("upstream", "apply", "-f", "-", stdin=wanted, kubeconfig=alice)
            assert done.returncode == 0, done.stderr
            return True

        wait_until(accepted)
        wait_until(lambda: installation.api["east"].get("configmap", room, "a"))
    finally:
        kubectl("upstream", "delete", "clusterrole,clusterrolebinding", role)


def explained_near(installation: Installation, room: str) -> str:
    """What `explain` says of ConfigMap `alone` once it knows the placement `near`."""
    said = installation.must("explain", "cm/alone", "-n", room)
    return said if "near (the nearest)" in said else ""


def test_questions_about_what_does_not_exist_are_answered_with_a_way_on(installation: Installation, room: str) -> None:
    """B38: a wrong kind, a wrong name, an object that nothing places, a target that is not frozen."""
    installation.kubectl.apply("upstream", config_map(room, "alone", k="1"))
    kind = installation.syncline("status", "deploymnt/web", "-n", room)
    assert kind.returncode == 1
    assert "deploymnt" in kind.stderr
    name = installation.syncline("explain", "cm/nobody", "-n", room)
    assert name.returncode == 1
    assert "Check the name" in name.stderr
    assert "none in this namespace" in installation.must("explain", "cm/alone", "-n", room)
    chosen = {"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": {"matchLabels": {"app": "shop"}}}
    installation.kubectl.apply("upstream", placement(room, "near", ["east"], chosen))
    nearest = wait_until(lambda: explained_near(installation, room))
    assert "label app is missing, wanted shop" in nearest
    assert "What to do" in nearest
    assert "not frozen" in installation.must("ack", "east")
    for done in (kind, name):
        assert len(done.stderr.strip().splitlines()) == 2


def test_a_plain_user_sees_what_kubectl_would_show_and_learns_of_the_missing_right(
    installation: Installation, room: str
) -> None:
    """S40: with `view` in the namespace status, explain and pods answer; without it they name the right."""
    upstream, kubectl = installation.fleet.upstream, installation.kubectl
    alice, bob = upstream.user("alice"), upstream.user("bob")
    kubectl("upstream", "create", "rolebinding", "viewer", "-n", room, "--clusterrole=view", "--user=bob")
    kubectl.apply("upstream", deployment(room, "web", 1), placement(room, "all", ["east"]))
    kubectl("upstream", "-n", room, "wait", "--for=condition=Synced", "placement/all", "--timeout=20s")
    for command in ("status", "explain", "pods"):
        seen = installation.syncline(command, "deploy/web", "-n", room, kubeconfig=bob)
        assert seen.returncode == 0, seen.stderr
        assert "east" in seen.stdout
        refused = installation.syncline(command, "deploy/web", "-n", room, kubeconfig=alice)
        assert refused.returncode == 1
        assert 'user "alice" may not get deployments.apps' in refused.stderr
        assert "Ask an administrator" in refused.stderr
    nothing = installation.syncline("status", kubeconfig=alice)
    assert nothing.stdout == "Everything that you may see is in sync.\n"


def test_a_second_operator_on_the_same_ports_says_which_setting_is_wrong(installation: Installation) -> None:
    """B38: the address is in use."""
    taken = f"127.0.0.1:{installation.operator.http_port}"
    upstream = str(installation.fleet.upstream.kubeconfig)
    done = installation.syncline(
        "operator", "--kubeconfig", upstream, "--http-bind", taken, "--hub-bind", "127.0.0.1:0", timeout_seconds=20
    )
    assert done.returncode in (1, 2)
    assert "http" in done.stderr
    assert "Traceback" not in done.stderr
    assert installation.operator.ask("/healthz")[0] == http.HTTPStatus.OK
