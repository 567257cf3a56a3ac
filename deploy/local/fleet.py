"""A running fleet, as demos, tests and people's scripts see it; they never know which provider made it."""

from __future__ import annotations

import base64
import datetime
import json
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from deploy.local import kubeconfigs
from deploy.local.api import wait_ready
from deploy.local.certificates import Authority, KeyPair, signing_request
from deploy.local.errors import GroundError
from deploy.local.files import write_atomically, write_json
from deploy.local.processes import ETCD, ProcessTable, Record, end, kill

FLEET_FILE = "fleet.json"
_SIGNER = "kubernetes.io/kube-apiserver-client"
_SIGNER_SECONDS = 5.0  # those of kube-controller-manager take less than one


@dataclass(frozen=True)
class Cluster:
    """One cluster of a fleet.

    Attributes:
        kubeconfig: of the admin, one context named as the cluster, credentials inline.
        server: URL of the API server.
        fleet_folder: the folder of the fleet that it belongs to.
        address: provider `kind` only: IP address of its node, for clusters that can reach it.
    """

    name: str
    kubeconfig: Path
    server: str
    fleet_folder: Path
    address: str = ""

    @property
    def table(self) -> ProcessTable:
        """The processes of the fleet."""
        return ProcessTable(self.fleet_folder)

    @property
    def processes(self) -> dict[str, Record]:
        """{component: last started process}, etcd (shared by all clusters) included; empty where we run none."""
        records = {record.name: record for record in self.table.records()}
        prefix = f"{self.name}."
        own = {name.removeprefix(prefix): record for name, record in records.items() if name.startswith(prefix)}
        return {**own, ETCD: records[ETCD]} if own and ETCD in records else own

    def user(self, name: str, *, groups: Sequence[str] = ()) -> Path:
        """Return a kubeconfig of a plain user, who has no rights but those that RBAC gives to the name and groups.

        It carries a client certificate: by the cluster's CA where we hold that, else by a CertificateSigningRequest
        that the admin approves. Where nothing signs those, it impersonates through the admin.
        """
        path = self.kubeconfig.parent / "users" / f"{'.'.join([name, *groups])}.kubeconfig"
        if path.exists():
            return path
        path.parent.mkdir(exist_ok=True, mode=0o700)
        admin = kubeconfigs.load(self.kubeconfig)
        pki = self.kubeconfig.parent / "pki"
        if (pki / "ca.key").exists():
            pair = KeyPair((pki / "ca.crt").read_bytes(), (pki / "ca.key").read_bytes())
            now = datetime.datetime.now(datetime.UTC)
            issued = Authority(pair).issue(name, now=now, organizations=groups)
            endpoint = kubeconfigs.Endpoint(self.server, pair.certificate)
            config = kubeconfigs.kubeconfig(self.name, endpoint, issued, user=name)
        elif signed := self._signed(name, groups):
            parts = {"client-certificate-data": signed.certificate, "client-key-data": signed.key}
            user = {part: base64.b64encode(text).decode() for part, text in parts.items()}
            config = admin | {"users": [{"name": admin["users"][0]["name"], "user": user}]}
        else:
            config = admin
            config["users"][0]["user"] |= {"as": name, "as-groups": ["system:authenticated", *groups]}
        write_atomically(path, kubeconfigs.as_text(config))
        return path

    def _signed(self, name: str, groups: Sequence[str]) -> KeyPair | None:
        """What the cluster's own signer gives; None where there is none, or where it does not sign such a user."""
        kubectl = partial(Fleet.load(self.fleet_folder).kubectl, self.name)
        key, request = signing_request(name, groups)
        named = f"syncline-{uuid.uuid4()}"
        spec = {"request": base64.b64encode(request).decode(), "signerName": _SIGNER, "usages": ["client auth"]}
        manifest = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "spec": spec}
        created = kubectl("create", "-f", "-", stdin=json.dumps(manifest | {"metadata": {"name": named}}), check=False)
        if created.returncode != 0:
            return None
        try:
            kubectl("certificate", "approve", named)
            deadline = time.monotonic() + _SIGNER_SECONDS
            while time.monotonic() < deadline:
                if text := kubectl("get", "csr", named, "-o", "jsonpath={.status.certificate}").stdout:
                    return KeyPair(base64.b64decode(text), key)
                time.sleep(0.2)
        finally:
            kubectl("delete", "csr", named)
        return None

    def stop(self, component: str = "apiserver") -> None:
        """Freeze a process (SIGSTOP): it holds its connections and answers nothing."""
        self._check(component, self._process(component).stop())

    def cont(self, component: str = "apiserver") -> None:
        """Let a stopped process go on (SIGCONT)."""
        self._check(component, self._process(component).send(signal.SIGCONT))

    def kill(self, component: str = "apiserver") -> None:
        """Kill a process (SIGKILL) and return when it is gone; nothing starts it again but `start`."""
        kill([self._process(component)])

    def start(self, component: str = "apiserver") -> None:
        """Start a process that was killed, with the flags it had, and wait until an API server is ready."""
        name = ETCD if component == ETCD else f"{self.name}.{component}"
        self.table.start_again(name)
        if component == "apiserver":
            wait_ready(self.server, self.kubeconfig.parent / "pki")
        if (self.fleet_folder / FLEET_FILE).exists():
            Fleet.load(self.fleet_folder).save()

    def restart(self, component: str = "apiserver") -> None:
        """End a process with SIGTERM, start it again, and wait until an API server is ready."""
        end([self._process(component)])
        self.start(component)

    def _process(self, component: str) -> Record:
        processes = self.processes
        if component not in processes:
            known = ", ".join(processes) or "none, for they are not ours to touch"
            raise GroundError(f"cluster {self.name} has no process {component}", hint=f"processes: {known}")
        return processes[component]

    def _check(self, component: str, runs: bool) -> None:
        if not runs:
            raise GroundError(f"{component} of cluster {self.name} does not run", hint="start it first")


@dataclass(frozen=True)
class Fleet:
    """One upstream and its targets.

    Attributes:
        folder: where its state lies.
        provider: who made it: `local`, `existing` or `kind`.
        assets: folder with kubectl.
        request: what `up` was asked for, in the form of `FleetRequest.as_json`.
        inside: words before a command that is to reach the clusters: `nsenter …` where the network is theirs alone.
    """

    folder: Path
    provider: str
    upstream: Cluster
    targets: dict[str, Cluster]
    assets: Path
    request: dict[str, Any]
    inside: tuple[str, ...] = ()

    @property
    def clusters(self) -> dict[str, Cluster]:
        """All clusters by name, upstream first."""
        return {self.upstream.name: self.upstream, **self.targets}

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig with a context for each cluster; upstream is the current one."""
        return self.folder / "kubeconfig"

    @property
    def table(self) -> ProcessTable:
        """The processes of the fleet; `table.start("operator", …)` adds one that `down` ends first."""
        return ProcessTable(self.folder)

    @classmethod
    def load(cls, folder: Path) -> Fleet:
        """Read a fleet that is up.

        Raises:
            GroundError: the folder holds no fleet.
        """
        folder = folder.resolve()
        try:
            data = json.loads((folder / FLEET_FILE).read_text())
        except FileNotFoundError as error:
            raise GroundError(f"no fleet is up in {folder}", hint="start one with `make up`") from error

        def cluster(entry: dict[str, Any]) -> Cluster:
            return Cluster(entry["name"], Path(entry["kubeconfig"]), entry["server"], folder, entry.get("address", ""))

        targets = {name: cluster(entry) for name, entry in data["targets"].items()}
        upstream, assets = cluster(data["upstream"]), Path(data["assets"])
        inside = tuple(data.get("inside", ()))
        return cls(folder, data["provider"], upstream, targets, assets, data["request"], inside)

    def save(self) -> None:
        """Write fleet.json, with the pids of now."""
        write_json(self.folder / FLEET_FILE, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """The content of fleet.json."""

        def entry(cluster: Cluster) -> dict[str, Any]:
            users = sorted((cluster.kubeconfig.parent / "users").glob("*.kubeconfig"))
            return {
                "name": cluster.name,
                "kubeconfig": str(cluster.kubeconfig),
                "server": cluster.server,
                "pids": {component: record.pid for component, record in cluster.processes.items()},
                "users": {path.name.removesuffix(".kubeconfig"): str(path) for path in users},
                **({"address": cluster.address} if cluster.address else {}),
            }

        return {
            "provider": self.provider,
            "upstream": entry(self.upstream),
            "targets": {name: entry(cluster) for name, cluster in self.targets.items()},
            "assets": str(self.assets),
            "request": self.request,
            **({"inside": list(self.inside)} if self.inside else {}),
        }

    def kubectl(
        self,
        cluster: str,
        *arguments: str,
        timeout_seconds: float = 30,
        stdin: str | None = None,
        kubeconfig: Path | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl against a cluster.

        Args:
            timeout_seconds: kubectl waits for ever by itself, so it always gets one.
            stdin: text handed to it, for `-f -`.
            kubeconfig: another user's; the admin's by default.
            check: raise when it fails; else look at `returncode`.

        Raises:
            GroundError: it failed, with what it said, or it did not end in time.
        """
        config = kubeconfig or self.clusters[cluster].kubeconfig
        command = [*self.inside, str(self.assets / "kubectl"), f"--kubeconfig={config}", *arguments]
        said = " ".join(["kubectl", *arguments])
        try:
            done = subprocess.run(  # noqa: S603  arguments of our own callers, no shell
                command, input=stdin, capture_output=True, text=True, timeout=timeout_seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise GroundError(f"`{said}` on {cluster} did not end within {timeout_seconds:g} s") from error
        if check and done.returncode != 0:
            raise GroundError(f"`{said}` on {cluster} failed: {done.stderr.strip()}")
        return done


def write_kubeconfigs(folder: Path, clusters: Mapping[str, Cluster], users: Sequence[str]) -> None:
    """Give each cluster its plain users, and the folder a kubeconfig with a context for each cluster."""
    for cluster in clusters.values():
        for user in users:
            cluster.user(user)
    configs = {name: kubeconfigs.load(cluster.kubeconfig) for name, cluster in clusters.items()}
    write_atomically(folder / "kubeconfig", kubeconfigs.as_text(kubeconfigs.merged(configs)))
