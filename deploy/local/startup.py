"""Brings one cluster of a local fleet from nothing to ready."""

from __future__ import annotations

import datetime
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploy.local import components, kubeconfigs
from deploy.local.api import AdminApi
from deploy.local.certificates import Authority, signing_key
from deploy.local.errors import GroundError
from deploy.local.files import write_atomically
from deploy.local.plan import ClusterPlan
from deploy.local.processes import ETCD, ProcessTable

_READY_SECONDS = 180.0  # 6 s on two idle cores; many clusters at once take their time
_POLL_SECONDS = 0.1
_IN_USE = "address already in use"


class PortTakenError(Exception):
    """A port was free when it was chosen and taken when its server came."""


class Launcher:
    """Starts a fleet's processes with the environment and the extra flags that the fleet gives them.

    Args:
        arguments: {component or "CLUSTER.COMPONENT": extra flags}.
        environ: variables of every process, beside PATH and a HOME of their own.
    """

    def __init__(self, table: ProcessTable, arguments: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> None:
        self.table = table
        self.abandoned = threading.Event()  # set: nobody waits for this fleet any more
        self._arguments = arguments
        self._environ = environ
        self._home = table.folder / "home"  # theirs, so that no configuration of the user's reaches them
        self._home.mkdir(exist_ok=True, mode=0o700)

    def launch(self, name: str, argv: Sequence[str]) -> None:
        """Start `etcd` or `CLUSTER.COMPONENT`, with a new log."""
        component = name.rpartition(".")[2]
        extra = [flag for key in dict.fromkeys((component, name)) for flag in self._arguments.get(key, ())]
        self.table.log_path(name).unlink(missing_ok=True)
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._home), **self._environ}
        self.table.start(name, [*argv, *extra], env=env)

    def must_live(self, name: str) -> None:
        """Check a process that somebody waits for.

        Raises:
            PortTakenError: it ended because its port was taken.
            GroundError: it ended for another reason, told by the last line of its log.
        """
        record = self.table.read(name)
        if record and record.alive and not self.abandoned.is_set():
            return
        lines = self.table.log_path(name).read_text(errors="replace").splitlines()
        if any(_IN_USE in line for line in lines[-50:]):
            raise PortTakenError(f"a port of {name} was taken meanwhile")
        last = lines[-1] if lines else "it printed nothing"
        raise GroundError(f"{name} ended while starting: {last[:300]}", hint=f"see {self.table.log_path(name)}")


class ClusterStart:
    """Starts the processes of one cluster in their order; etcd runs or is starting.

    Args:
        binaries: {tool: path}.
        nodes: how many fake nodes a cluster with kwok gets.
    """

    def __init__(self, plan: ClusterPlan, launcher: Launcher, binaries: Mapping[str, Path], *, nodes: int) -> None:
        self._plan = plan
        self._launcher = launcher
        self._binaries = binaries
        self._nodes = nodes
        self._names: list[str] = [ETCD]

    def run(self) -> None:
        """Return when the cluster is ready: API server, default service account, nodes.

        Raises:
            PortTakenError: choose other ports and start over.
            GroundError: it cannot be started.
        """
        plan = self._plan
        write_credentials(plan)
        api = AdminApi(plan.server, plan.pki)
        self._launch("apiserver", components.apiserver(self._binaries["kube-apiserver"], plan))
        self._wait("its API server", api.is_ready)
        if "controller-manager" in plan.ports:
            binary = self._binaries["kube-controller-manager"]
            self._launch("controller-manager", components.controller_manager(binary, plan))
        if "scheduler" in plan.ports:
            self._launch("scheduler", components.scheduler(self._binaries["kube-scheduler"], plan))
        if "kwok" in plan.ports:
            self._start_nodes(api)
        if "controller-manager" in plan.ports:
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            self._wait("its controllers", lambda: api.get(account) is not None)

    def _start_nodes(self, api: AdminApi) -> None:
        plan = self._plan
        write_atomically(plan.folder / "pod.log", components.POD_LOG)
        documents = [json.dumps(document) for document in components.kwok_config(plan)]
        write_atomically(plan.folder / "kwok.yaml", "\n---\n".join(documents) + "\n")
        self._launch("kwok", components.kwok(self._binaries["kwok"], plan))
        names = [f"{plan.name}-node-{number}" for number in range(1, self._nodes + 1)]
        for name in names:
            status, body = api.request("POST", "/api/v1/nodes", components.node(name))
            if status >= 300:
                raise GroundError(f"node {name} cannot be created: {body.decode(errors='replace')[:300]}")
        self._wait("its nodes", lambda: all(_is_ready(api, name) for name in names))

    def _launch(self, component: str, argv: list[str]) -> None:
        name = f"{self._plan.name}.{component}"
        self._launcher.launch(name, argv)
        self._names.append(name)

    def _wait(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not holds():
            for name in self._names:
                self._launcher.must_live(name)
            if time.monotonic() > deadline:
                raise GroundError(
                    f"{self._plan.name}: {what} was not ready within {_READY_SECONDS:.0f} s",
                    hint=f"see the logs in {self._launcher.table.logs}",
                )
            time.sleep(_POLL_SECONDS)


def _is_ready(api: AdminApi, node: str) -> bool:
    found = api.get(f"/api/v1/nodes/{node}")
    conditions = (found or {}).get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def write_credentials(plan: ClusterPlan) -> None:
    """Make the cluster's CA, its certificates, and the kubeconfigs of admin and components; all files 0600."""
    plan.pki.mkdir(parents=True, mode=0o700)
    now = datetime.datetime.now(datetime.UTC)
    authority = Authority.create(f"{plan.name}-ca", now=now)
    admin = authority.issue("admin", now=now, organizations=["system:masters"])
    hosts = ["127.0.0.1", "10.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    server = authority.issue("kube-apiserver", now=now, hosts=hosts)
    signing, public = signing_key()
    files = {"sa.key": signing, "sa.pub": public}
    for name, pair in {"ca": authority.pair, "admin": admin, "apiserver": server}.items():
        files |= {f"{name}.crt": pair.certificate, f"{name}.key": pair.key}
    for name, content in files.items():
        write_atomically(plan.pki / name, content)
    endpoint = kubeconfigs.Endpoint(plan.server, authority.pair.certificate)
    users = {"admin": admin}
    for component in ("controller-manager", "scheduler"):
        if component in plan.ports:
            users[component] = authority.issue(f"system:kube-{component}", now=now)
    for name, pair in users.items():
        config = kubeconfigs.kubeconfig(plan.name, endpoint, pair, user=name)
        write_atomically(plan.folder / f"{name}.kubeconfig", kubeconfigs.as_text(config))
