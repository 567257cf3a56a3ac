"""The operator as a process: start errors, listeners, hub, hand-over, end."""

from __future__ import annotations

import base64
import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.errors import GroundError
from tests.support.fleet import Kubectl, start_fleet, stop_fleet, wait_until
from tests.support.process import OperatorProcess, free_port, get, install_crds

pytestmark = pytest.mark.real
QUICK = ("--lease-seconds", "3", "--lease-renew-seconds", "2", "--lease-retry-seconds", "0.4")
Start = Callable[..., OperatorProcess]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl on upstream and a; nothing of ours is there."""
    fleet = start_fleet(tmp_path_factory.mktemp("operator"), targets=("a",), light=True)
    yield Kubectl(fleet)
    stop_fleet(fleet)


@pytest.fixture(scope="module")
def installed(ground: Kubectl) -> Kubectl:
    """The same with our CRDs."""
    install_crds(ground)
    return ground


@pytest.fixture
def start(ground: Kubectl, tmp_path: Path) -> Iterator[Start]:
    """Starts operators; they end with the test, and no webhook of theirs stays behind."""
    started: list[OperatorProcess] = []

    def begin(*flags: str, kubeconfig: Path | None = None) -> OperatorProcess:
        one = OperatorProcess(tmp_path, kubeconfig or ground.fleet.upstream.kubeconfig, *(flags or QUICK))
        started.append(one)
        return one

    yield begin
    for one in started:
        one.end()
    api = ground.api("upstream")
    for kind in ("validatingwebhookconfiguration", "mutatingwebhookconfiguration"):
        api.delete(kind, "", "syncline.io")
    api.delete("lease", "syncline-system", "syncline-operator")


def fails(*arguments: str, code: int) -> tuple[str, str]:
    """Run an operator that cannot start; (cause, hint)."""
    done = subprocess.run(
        [sys.executable, "-m", "syncer.cli", "operator", *arguments], capture_output=True, text=True, timeout=40
    )
    said = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert len(said) == 2, done.stderr
    return said[0], said[1]


def test_an_unknown_key_an_unreadable_file_and_a_bad_value_end_with_two_lines(ground: Kubectl, tmp_path: Path) -> None:
    """B38: exit 2, one cause, one hint, and no value of the file."""
    config = tmp_path / "config.yaml"
    config.write_text("http-bnid: hunter2\n")
    cause, hint = fails("--config", str(config), code=2)
    assert "http-bnid" in cause
    assert "http-bind" in hint
    cause, _ = fails("--config", str(tmp_path / "missing"), code=2)
    assert "missing" in cause
    config.write_text("kubeconfig: [\n")
    assert "invalid YAML" in fails("--config", str(config), code=2)[0]
    assert "does not exist" in fails("--kubeconfig", str(tmp_path / "missing"), code=2)[0]
    assert "--http-bind" in fails("--http-bind", "hunter2", code=2)[0]


def test_an_upstream_that_does_not_answer_ends_the_start_with_its_address(ground: Kubectl, tmp_path: Path) -> None:
    config = yaml.safe_load(ground.fleet.upstream.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    file = tmp_path / "nowhere"
    file.write_text(yaml.safe_dump(config))
    cause, hint = fails("--kubeconfig", str(file), code=1)
    assert "https://127.0.0.1:1 does not answer" in cause
    assert "--kubeconfig" in hint


def test_without_our_crds_the_start_says_how_to_install_them(ground: Kubectl) -> None:
    cause, hint = fails("--kubeconfig", str(ground.fleet.upstream.kubeconfig), code=1)
    assert "not installed" in cause
    assert "syncline crds | kubectl apply" in hint


def test_a_user_without_rights_is_told_which_role_is_needed(ground: Kubectl) -> None:
    cause, hint = fails("--kubeconfig", str(ground.fleet.upstream.user("alice")), code=1)
    assert "refuses" in cause
    assert "ClusterRole" in hint


def test_a_port_that_is_taken_is_named(installed: Kubectl, start: Start) -> None:
    first = start()
    first.until_ready()
    for flag, port, other in (("--http-bind", first.http, "--hub-bind"), ("--hub-bind", first.hub, "--http-bind")):
        arguments = [flag, f"127.0.0.1:{port}", other, f"127.0.0.1:{free_port()}"]
        cause, hint = fails("--kubeconfig", str(installed.fleet.upstream.kubeconfig), *arguments, code=1)
        assert f"127.0.0.1:{port}" in cause
        assert flag in hint


def test_every_listener_and_route_tells_an_anonymous_caller_nothing(installed: Kubectl, start: Start) -> None:
    """S44: listeners are counted at the process itself; only health and readiness answer, metrics on loopback."""
    operator = start()
    operator.until_ready()
    wait_until(lambda: len(operator.listeners()) == 3)
    assert {address for address, _ in operator.listeners()} == {"127.0.0.1"}
    ports = {port for _, port in operator.listeners()}
    webhook = next(iter(ports - {operator.http, operator.hub}))
    insecure = ssl._create_unverified_context()
    routes = [
        "/",
        "/api/v1/targets",
        "/api/v1/problems",
        "/debug/state",
        "/metrics",
        "/healthz",
        "/events",
        "/validate",
    ]
    for method in ("GET", "POST", "PUT", "DELETE"):
        for route in routes:
            assert get(f"https://127.0.0.1:{operator.hub}{route}", tls=insecure, method=method).status == 401
            answer = get(f"https://127.0.0.1:{webhook}{route}", tls=insecure, method=method)
            assert answer.status in (400, 404, 405), (method, route, answer)
            plain = get(f"http://127.0.0.1:{operator.http}{route}", method=method).status
            assert plain == (200 if method == "GET" and route in ("/healthz", "/metrics") else plain)
            assert plain in (200, 404, 405)
            assert plain != 200 or route in ("/healthz", "/metrics")


def connect_info(kubectl: Kubectl) -> tuple[str, ssl.SSLContext]:
    """(hub URL, a TLS context that trusts exactly the published authority)."""
    data = (kubectl.get("upstream", "configmap", "syncline-hub", "syncline-system") or {}).get("data") or {}
    assert data["caHash"].startswith("sha256:")
    assert data["version"]
    return data["url"], ssl.create_default_context(cadata=data["caBundle"])


def test_the_hub_is_found_through_its_configmap_and_answers_by_upstream_rights(
    installed: Kubectl, start: Start, tmp_path: Path
) -> None:
    first = start()
    first.until_ready()
    wait_until(lambda: connect_info(installed))
    url, tls = connect_info(installed)
    assert url == f"https://127.0.0.1:{first.hub}"
    # A client certificate, as kubectl would show it.
    user = yaml.safe_load(installed.fleet.upstream.kubeconfig.read_text())["users"][0]["user"]
    pair = tmp_path / "pair.pem"
    pair.write_bytes(b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("key", "certificate")))
    _, admin = connect_info(installed)
    admin.load_cert_chain(pair)
    assert get(f"{url}/api/v1/targets", tls=admin).json == {"items": []}
    assert get(f"{url}/api/v1/problems", tls=admin).status == 200
    assert get(f"{url}/api/v1/explain/configmaps/default/nothing", tls=admin).status == 404
    # A token without rights, then with.
    account = f"viewer-{time.monotonic_ns()}"
    installed("upstream", "create", "serviceaccount", account, "-n", "default")
    token = installed("upstream", "create", "token", account, "-n", "default").strip()
    bearer = {"Authorization": f"Bearer {token}"}
    assert get(f"{url}/api/v1/targets", tls=tls, headers=bearer).status == 403
    assert get(f"{url}/api/v1/targets", tls=tls, headers={"Authorization": "Bearer x"}).status == 401
    installed("upstream", "create", "clusterrole", account, "--verb=list,get", "--resource=synctargets.syncline.io")
    installed(
        "upstream",
        "create",
        "clusterrolebinding",
        account,
        f"--clusterrole={account}",
        f"--serviceaccount=default:{account}",
    )
    wait_until(lambda: get(f"{url}/api/v1/targets", tls=tls, headers=bearer).status == 200)
    # The authority outlives the process, and so do keys of others in the ConfigMap.
    before = (installed.get("upstream", "configmap", "syncline-hub", "syncline-system") or {})["data"]
    assert "crdUIDs" in before
    first.send(signal.SIGTERM)
    assert first.wait() == 0
    second = start()
    second.until_ready()
    wait_until(lambda: connect_info(installed)[0] != url)
    after = (installed.get("upstream", "configmap", "syncline-hub", "syncline-system") or {})["data"]
    assert (after["caHash"], after["crdUIDs"]) == (before["caHash"], before["crdUIDs"])
    assert get(f"{connect_info(installed)[0]}/api/v1/targets", tls=admin).status == 200


def lease_holder(kubectl: Kubectl) -> str:
    lease = kubectl.get("upstream", "lease", "syncline-operator", "syncline-system")
    return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")


def test_sigterm_ends_within_ten_seconds_and_frees_the_lease(installed: Kubectl, start: Start) -> None:
    """F24."""
    operator = start()
    operator.until_ready()
    wait_until(lambda: lease_holder(installed))
    told = operator.send(signal.SIGTERM)
    assert operator.wait() == 0
    assert time.monotonic() - told < 10
    assert lease_holder(installed) == ""


def test_a_second_sigterm_ends_at_once(installed: Kubectl, start: Start) -> None:
    """The upstream does not answer, so the orderly end would take its time."""
    operator = start()
    operator.until_ready()
    installed.fleet.upstream.stop("apiserver")
    try:
        operator.send(signal.SIGTERM)
        wait_until(lambda: "draining" in operator.log)
        operator.send(signal.SIGTERM)
        assert operator.wait() == 130  # the orderly end has another code
    finally:
        installed.fleet.upstream.cont("apiserver")


def test_a_second_replica_waits_answers_from_the_leader_and_takes_over(
    installed: Kubectl, start: Start, tmp_path: Path
) -> None:
    """L08: with hub address and webhooks, so that a SyncTarget can be made again after the first one's death."""
    first = start()
    first.until_ready()
    second = start()
    second.until_ready()
    assert first.leads()
    assert not second.leads()
    user = yaml.safe_load(installed.fleet.upstream.kubeconfig.read_text())["users"][0]["user"]
    pair = tmp_path / "pair.pem"
    pair.write_bytes(b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("key", "certificate")))
    _, tls = connect_info(installed)
    tls.load_cert_chain(pair)
    views = f"https://127.0.0.1:{second.hub}/api/v1/targets"
    wait_until(lambda: get(views, tls=tls).status == 200)  # it knows the other one by its Lease
    killed = first.send(signal.SIGKILL)
    wait_until(second.leads, timeout_seconds=20)
    assert time.monotonic() - killed < 20
    wait_until(lambda: connect_info(installed)[0] == f"https://127.0.0.1:{second.hub}")
    assert get(f"https://127.0.0.1:{second.hub}/api/v1/targets", tls=tls).status == 200
    manifest = {
        "apiVersion": "syncline.io/v1alpha1",
        "kind": "SyncTarget",
        "metadata": {"name": "late"},
        "spec": {"connection": {"direct": {}}, "deletion": "Orphan"},
    }
    wait_until(lambda: installed.apply("upstream", manifest), timeout_seconds=10)
    installed("upstream", "delete", "synctarget", "late", "--timeout=15s")


def new_placement() -> dict[str, Any]:
    """One that nobody has made yet."""
    name = f"p-{time.monotonic_ns()}"
    spec = {"resources": [{"apiVersion": "v1", "kind": "ConfigMap", "names": ["*"]}], "targets": {"names": ["nowhere"]}}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "syncline.io/v1alpha1", "kind": "Placement", "metadata": metadata, "spec": spec}


def test_ready_means_that_placements_are_taken_at_once(installed: Kubectl, start: Start) -> None:
    """After a restart the webhooks have another address: nobody is told "ready" before the API server asks there."""
    for _ in range(3):
        operator = start()
        wait_until(operator.ready, timeout_seconds=60, every_seconds=0.001)
        installed.apply("upstream", new_placement())
        operator.end()
    with pytest.raises(GroundError, match="failed calling webhook"):
        installed.apply("upstream", new_placement())


def test_placements_are_taken_before_a_killed_leader_is_replaced(installed: Kubectl, start: Start) -> None:
    """F59: another replica registers itself as soon as the leader's address is silent; the lease runs for a minute."""
    slow = ("--lease-seconds", "60", "--lease-renew-seconds", "40", "--lease-retry-seconds", "2")
    first = start(*slow)
    first.until_ready()
    second = start(*slow)
    second.until_ready()
    first.send(signal.SIGKILL)
    wait_until(lambda: installed.apply("upstream", new_placement()), timeout_seconds=30)
    assert not second.leads()
    assert lease_holder(installed)
    # A stopped one accepts connections and says nothing.
    installed("upstream", "delete", "lease", "syncline-operator", "-n", "syncline-system")
    third = start(*slow)
    third.until_ready()
    second.send(signal.SIGSTOP)
    try:
        wait_until(lambda: installed.apply("upstream", new_placement()), timeout_seconds=30)
    finally:
        second.send(signal.SIGCONT)


def test_a_leader_that_was_stopped_comes_back_as_a_follower(installed: Kubectl, start: Start) -> None:
    """F19 for the whole process: it does not lead for a moment longer, and goes on as a candidate."""
    first = start()
    first.until_ready()
    second = start()
    second.until_ready()
    first.send(signal.SIGSTOP)
    wait_until(second.leads, timeout_seconds=20)
    first.send(signal.SIGCONT)
    wait_until(lambda: first.health().status == 200 and not first.leads(), timeout_seconds=10)
    assert second.leads()
    second.send(signal.SIGTERM)
    assert second.wait() == 0
    wait_until(first.leads, timeout_seconds=10)
    assert first.process.poll() is None


def test_a_sync_target_works_end_to_end_and_no_secret_reaches_the_log(installed: Kubectl, start: Start) -> None:
    """S50: a bad token at the highest verbosity appears in no line; then the good one makes the target Ready."""
    operator = start(*QUICK, "--log-level", "debug", "--log-format", "json", "--probe-seconds", "0.5")
    operator.until_ready()
    config: dict[str, Any] = yaml.safe_load(installed.fleet.targets["a"].kubeconfig.read_text())
    good = yaml.safe_dump(config)
    config["users"][0]["user"] = {"token": "c4n4ry.t0ken.0123456789abcdef"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "syncline-system"}}
    target = {
        "apiVersion": "syncline.io/v1alpha1",
        "kind": "SyncTarget",
        "metadata": {"name": "a"},
        "spec": {"connection": {"direct": {}}},
    }
    installed.apply("upstream", {**secret, "stringData": {"kubeconfig": yaml.safe_dump(config)}}, target)

    def condition(kind: str) -> tuple[str, str]:
        found = installed.get("upstream", "synctarget", "a") or {}
        for one in (found.get("status") or {}).get("conditions") or ():
            if one["type"] == kind:
                return one["status"], one["reason"]
        return "", ""

    wait_until(lambda: condition("Connected") == ("False", "Unauthorized"))
    installed.apply("upstream", {**secret, "stringData": {"kubeconfig": good}})
    wait_until(lambda: condition("Ready")[0] == "True")
    metrics = operator.health("/metrics").text
    assert 'syncline_target_ready{target="a"} 1.0' in metrics
    installed("upstream", "delete", "synctarget", "a", "--timeout=20s")
    wait_until(lambda: 'syncline_target_ready{target="a"}' not in operator.health("/metrics").text)
    log = operator.log
    encoded = base64.b64encode(b"c4n4ry.t0ken").decode()
    for canary in ("c4n4ry", encoded[:12], yaml.safe_load(good)["users"][0]["user"]["client-key-data"][:60]):
        assert canary not in log
    assert all(json.loads(line) for line in log.splitlines())


def test_the_operators_role_is_enough_and_nothing_is_forbidden(installed: Kubectl, start: Start) -> None:
    """S73: as user syncline-operator with deploy/rbac/operator.yaml, from the start to a target that is removed."""
    rbac = Path(__file__).parents[2] / "deploy" / "rbac" / "operator.yaml"
    installed("upstream", "apply", "-f", str(rbac))
    # No controller aggregates ClusterRoles on a light fleet: give the aggregated one the rules of its parts.
    roles = [d for d in yaml.safe_load_all(rbac.read_text()) if d and d["kind"] == "ClusterRole"]
    rules = [rule for role in roles for rule in role.get("rules") or ()]
    patch = json.dumps({"aggregationRule": None, "rules": rules})
    installed("upstream", "patch", "clusterrole", "syncline-operator", "--type=merge", "-p", patch)
    kubeconfig = installed.fleet.upstream.user("syncline-operator")
    operator = start(*QUICK, "--log-level", "debug", "--log-format", "json", kubeconfig=kubeconfig)
    operator.until_ready()
    config = installed.fleet.targets["a"].kubeconfig.read_text()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "r", "namespace": "syncline-system"}}
    target = {
        "apiVersion": "syncline.io/v1alpha1",
        "kind": "SyncTarget",
        "metadata": {"name": "r"},
        "spec": {"connection": {"direct": {}}},
    }
    installed.apply("upstream", {**secret, "stringData": {"kubeconfig": config}}, target)
    installed("upstream", "wait", "--for=condition=Ready", "synctarget/r", "--timeout=20s")
    assert installed.get("upstream", "configmap", "syncline-hub", "syncline-system")
    installed("upstream", "delete", "synctarget", "r", "--timeout=20s")
    operator.send(signal.SIGTERM)
    assert operator.wait() == 0
    refused = [line for line in operator.log.splitlines() if "orbidden" in line or "permission" in line]
    assert refused == []


def test_an_upstream_that_goes_away_and_comes_back_is_survived(installed: Kubectl, start: Start) -> None:
    """Killed and started again, for longer than the lease: no leader meanwhile, the same process leads afterwards."""
    operator = start()
    wait_until(lambda: operator.ready() and operator.leads(), timeout_seconds=60)
    upstream = installed.fleet.upstream
    upstream.kill("apiserver")
    try:
        wait_until(lambda: not operator.leads())  # 10 s behind the last renewal, told at the next look
        assert operator.process.poll() is None, operator.log[-2000:]
        assert operator.health("/readyz").status == 503
        assert operator.health("/healthz").status == 200
    finally:
        upstream.restart("apiserver")
    wait_until(lambda: operator.ready() and operator.leads(), timeout_seconds=30)
    wait_until(lambda: connect_info(installed))
    installed("upstream", "wait", "--for=condition=Established", "crd", "--all", "--timeout=10s")
