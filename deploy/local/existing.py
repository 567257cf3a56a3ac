"""Provider `existing`: somebody's own clusters, given by kubeconfigs; nothing is started and nothing is ended there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from deploy.local import kubeconfigs
from deploy.local.assets import find
from deploy.local.errors import GroundError
from deploy.local.files import write_atomically
from deploy.local.fleet import FLEET_FILE, Cluster, Fleet, write_kubeconfigs
from deploy.local.plan import UPSTREAM, FleetRequest
from deploy.local.processes import ProcessTable
from deploy.local.provider import Report, Row

_WEBHOOK_KINDS = ("validatingwebhookconfigurations", "mutatingwebhookconfigurations")
_OURS = "syncline"  # our webhook configurations have names that begin with this word


class ExistingProvider:
    """Takes the current context of each kubeconfig that is handed in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.table = ProcessTable(self.folder)

    def up(self, request: FleetRequest, report: Report) -> Fleet:
        """Copy the kubeconfigs into the folder and check that each API server answers."""
        missing = [name for name in (UPSTREAM, *request.targets) if name not in request.kubeconfigs]
        if missing:
            raise GroundError(
                f"no kubeconfig is given for {', '.join(missing)}",
                hint="make up PROVIDER=existing UPSTREAM=file TARGETS=east=file,west=file",
            )
        assets = kubectl_folder(report)
        clusters = {
            name: self._cluster(name, request.kubeconfigs[name].expanduser(), assets / "kubectl")
            for name in (UPSTREAM, *request.targets)
        }
        targets = {name: cluster for name, cluster in clusters.items() if name != UPSTREAM}
        fleet = Fleet(self.folder, "existing", clusters[UPSTREAM], targets, assets, request.as_json())
        for name in fleet.clusters:
            version = fleet.kubectl(name, "get", "--raw=/version", "--request-timeout=10s", timeout_seconds=20)
            report(f"{name} answers: {' '.join(version.stdout.split())[:80]}")
        self.table.ensure_supervisor()
        fleet.save()
        write_kubeconfigs(self.folder, clusters, request.users)  # users ask the clusters for certificates
        return fleet

    def down(self, report: Report) -> None:
        """End the operators and agents started from the folder, and remove our webhook configurations upstream."""
        if not (self.folder / FLEET_FILE).exists():
            report("nothing was running")
            return
        fleet = Fleet.load(self.folder)
        ended = self.table.end_everything()
        for kind in _WEBHOOK_KINDS:
            found = fleet.kubectl(UPSTREAM, "get", kind, "-o", "name").stdout.split()
            for name in (name for name in found if name.partition("/")[2].startswith(_OURS)):
                fleet.kubectl(UPSTREAM, "delete", name, "--ignore-not-found")
                report(f"removed {name}")
        for name in ("clusters", "run", FLEET_FILE, "kubeconfig"):
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        report(f"{len(ended)} processes ended")

    def status(self) -> list[Row]:
        """Whether each API server answers."""
        fleet = Fleet.load(self.folder)
        rows = []
        for name in fleet.clusters:
            asked = fleet.kubectl(name, "get", "--raw=/readyz", "--request-timeout=5s", timeout_seconds=15, check=False)
            rows.append(Row(name, "api", None, "ready" if asked.returncode == 0 else "does not answer"))
        return rows

    def _cluster(self, name: str, given: Path, kubectl: Path) -> Cluster:
        kubeconfigs.current(kubeconfigs.load(given))  # kubectl takes a missing file for an empty one
        flatten = [str(kubectl), f"--kubeconfig={given}", "config", "view", "--minify", "--flatten", "--raw", "-o=json"]
        flat = subprocess.run(flatten, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603  kubectl
        if flat.returncode != 0:
            raise GroundError(f"{given} cannot be used: {flat.stderr.strip()[:300]}")
        config = kubeconfigs.with_context(json.loads(flat.stdout), name)
        folder = self.folder / "clusters" / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / "admin.kubeconfig"
        write_atomically(path, kubeconfigs.as_text(config))
        return Cluster(name, path, kubeconfigs.current(config)[0].get("server", ""), self.folder)


def kubectl_folder(report: Report) -> Path:
    """Find a folder with kubectl; clusters of somebody else need no other binary.

    Raises:
        GroundError: there is none.
    """
    if assets := find(os.environ, note=report):
        return assets.folder
    if on_path := shutil.which("kubectl"):
        return Path(on_path).parent
    raise GroundError("kubectl is not on PATH", hint="install it: https://kubernetes.io/docs/tasks/tools/")
