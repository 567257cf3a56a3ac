"""Provider `kind`: a cluster of one real node for upstream and for each target.

Below the fleet's folder, `kind/site.json` says where kind runs and `kind/NAME/` holds what belongs to one cluster; they
are written before anything is created, so that `down` can remove what a killed `up` left.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.local import kubeconfigs
from deploy.local.build import ensure
from deploy.local.errors import GroundError
from deploy.local.existing import kubectl_folder
from deploy.local.files import alone, write_atomically
from deploy.local.fleet import FLEET_FILE, Cluster, Fleet, write_kubeconfigs
from deploy.local.kind import engine, ways
from deploy.local.kind.network import Network, let_targets_dial_upstream, networks
from deploy.local.kind.nodeimage import NODE_IMAGE, ensure_image
from deploy.local.kind.site import BUILT, STOCK, Site, node_of
from deploy.local.kind.tools import ensure_kind
from deploy.local.plan import UPSTREAM, FleetRequest
from deploy.local.processes import ProcessTable
from deploy.local.provider import Report, Row

MARK = "kind"  # folder whose existence says that a kind fleet is or was starting below
_STATE = ("clusters", "run", "agents", MARK, FLEET_FILE, "kubeconfig")
_PKI = "/etc/kubernetes/pki"


def kind_name(cluster: str) -> str:
    """Name that kind knows a cluster of the fleet by, so that nobody takes it for one of his own."""
    return f"syncline-{cluster}"


class KindProvider:
    """Fleets of kind clusters.

    Args:
        folder: where their state lies; made when missing.
        owner_pid: processes of the fleet end once this process is gone; its clusters stay for `down`.
    """

    def __init__(self, folder: Path, *, owner_pid: int | None = None) -> None:
        self.folder = folder.absolute()
        self.table = ProcessTable(self.folder)
        self._owner_pid = owner_pid

    def up(self, request: FleetRequest, report: Report) -> Fleet:
        """Create the clusters, side by side, or return the fleet that runs."""
        _check(request)
        with alone(self.folder):
            if fleet := self._running(request):
                return fleet
            self._clean(report)
            try:
                return self._start(request, report)
            except BaseException:
                self._clean(report)
                raise

    def down(self, report: Report) -> None:
        """Delete the clusters and drop all state but the logs; in the self-built way the engine ends too."""
        if not self.folder.exists():
            return
        with alone(self.folder):
            count = self._clean(report)
            report(f"{count} clusters deleted" if count else "nothing was running")

    def status(self) -> list[Row]:
        """Whether each API server answers, and how its node is."""
        fleet = Fleet.load(self.folder)
        site = Site.load(self.folder / MARK)
        rows = []
        for name in fleet.clusters:
            node = site.docker("ps", "--all", "--format={{.State}}", f"--filter=name=^{node_of(kind_name(name))}$")
            rows.append(Row(name, "node", None, node.strip() or "missing"))
            asked = fleet.kubectl(name, "get", "--raw=/readyz", "--request-timeout=5s", timeout_seconds=15, check=False)
            rows.append(Row(name, "api", None, "ready" if asked.returncode == 0 else "does not answer"))
        return rows

    def _running(self, request: FleetRequest) -> Fleet | None:
        if not (self.folder / FLEET_FILE).exists():
            return None
        fleet = Fleet.load(self.folder)
        if fleet.provider != "kind" or (fleet.inside and not engine.runs()):
            return None
        if fleet.request != request.as_json():
            raise GroundError(
                f"another fleet is up in {self.folder}: targets {', '.join(fleet.targets)}",
                hint="end it with `make down` first",
            )
        for row in self.status():
            if row.state not in ("running", "ready"):
                raise GroundError(
                    f"{row.component} of cluster {row.cluster} is not well: {row.state}",
                    hint="`make down`, then `make up PROVIDER=kind`",
                )
        return fleet

    def _clean(self, report: Report) -> int:
        """Remove what is or was starting below the folder; returns how many clusters were known."""
        known = sorted(path.name for path in (self.folder / MARK).glob("*") if path.is_dir())
        owner = engine.owner()
        if owner and owner.folder == self.folder:
            engine.stop(self.folder, report)
        elif (self.folder / MARK / "site.json").exists():
            site = Site.load(self.folder / MARK)
            for name in known if site.way == STOCK else ():
                site.delete(kind_name(name), self.folder / MARK / name / "kind.kubeconfig")
        self.table.end_everything()
        for name in _STATE:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return len(known)

    def _start(self, request: FleetRequest, report: Report) -> Fleet:
        names = (UPSTREAM, *request.targets)
        if ways.choose(os.environ, report) == BUILT:
            site, kubectl, placed = self._built(names, report)
        else:
            site, kubectl = self._stock(names, report)
            placed = {}
        report(f"creating {len(names)} kind clusters, about half a minute on two cores")
        began = time.monotonic()
        with ThreadPoolExecutor(len(names)) as pool:
            made = [pool.submit(self._create, site, name, placed.get(name)) for name in names]
            clusters = {}
            for name, creation in zip(names, made, strict=True):
                clusters[name] = creation.result()
                report(f"{name} is ready at {clusters[name].server}, {time.monotonic() - began:.1f} s")
        write_kubeconfigs(self.folder, clusters, request.users)
        upstream = clusters.pop(UPSTREAM)
        self.table.ensure_supervisor(owner_pid=self._owner_pid, inside=site.inside)
        fleet = Fleet(self.folder, "kind", upstream, clusters, kubectl, request.as_json(), site.inside)
        fleet.save()
        return fleet

    def _built(self, names: tuple[str, ...], report: Report) -> tuple[Site, Path, dict[str, Network]]:
        ways.require(ways.checks(os.environ))
        kubectl = ensure(os.environ, report).folder
        image = ensure_image(os.environ, report)
        site = Site(BUILT, image.tools / "kind", engine.INSIDE, engine.environment(), NODE_IMAGE)
        self._mark(site, names)
        engine.start(self.table, image.data_root, image.tools, report, owner_pid=self._owner_pid)
        placed = networks(names)
        for network in placed.values():
            site.docker("network", "create", *network.arguments)
        let_targets_dial_upstream(site.inside)
        return site, kubectl, placed

    def _stock(self, names: tuple[str, ...], report: Report) -> tuple[Site, Path]:
        on_path = shutil.which("kind")
        kind = Path(on_path) if on_path else ensure_kind(os.environ, report)
        kubectl = kubectl_folder(report)
        site = Site(STOCK, kind, image=ways.stock_image(os.environ))
        taken = {kind_name(name) for name in names} & set(site.clusters())
        if taken:
            raise GroundError(
                f"kind clusters of these names exist already: {', '.join(sorted(taken))}",
                hint="`make down` in the folder that they belong to, or `kind delete cluster --name NAME`",
            )
        self._mark(site, names)
        return site, kubectl

    def _mark(self, site: Site, names: tuple[str, ...]) -> None:
        self.table.logs.mkdir(exist_ok=True)
        for name in names:
            (self.folder / MARK / name).mkdir(parents=True, mode=0o700)
        site.save(self.folder / MARK)

    def _create(self, site: Site, name: str, network: Network | None) -> Cluster:
        made = site.create(
            kind_name(name),
            self.folder / MARK / name,
            log=self.table.log_path(f"{name}.kind"),
            network=network.name if network else "",
        )
        config = kubeconfigs.with_context(kubeconfigs.load(made), name)
        folder = self.folder / "clusters" / name
        (folder / "pki").mkdir(parents=True, exist_ok=True, mode=0o700)
        kubeconfig = folder / "admin.kubeconfig"
        write_atomically(kubeconfig, kubeconfigs.as_text(config))
        node = node_of(kind_name(name))
        for file in ("ca.crt", "ca.key"):
            # With the CA plain users get certificates of their own, as on a local fleet.
            write_atomically(folder / "pki" / file, site.docker("exec", node, "cat", f"{_PKI}/{file}"))
        address = site.docker("inspect", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", node)
        server = kubeconfigs.current(config)[0].get("server", "")
        return Cluster(name, kubeconfig, server, self.folder, address.strip())


def command_environment(folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """What a command needs that is to work with a fleet: the words before it, and its whole environment.

    Raises:
        GroundError: no kind fleet is up in the folder.
    """
    site = Site.load(folder.absolute() / MARK)
    fleet = Fleet.load(folder)
    tools = (site.kind.parent, fleet.assets, Path(sys.executable).parent)
    path = os.pathsep.join([*map(str, tools), os.environ.get("PATH", "")])
    return site.inside, site.environment(
        PATH=path, KUBECONFIG=str(fleet.kubeconfig), SYNCLINE_TEST_FLEET=str(fleet.folder)
    )


def load(folder: Path, image: str, names: list[str]) -> None:
    """Put an image on the nodes of some clusters of a fleet.

    Args:
        image: an archive in the form of `docker save`, or an image that the engine has.
        names: of the clusters; none means all.

    Raises:
        GroundError: a name is unknown, or kind failed.
    """
    site = Site.load(folder.absolute() / MARK)
    fleet = Fleet.load(folder)
    unknown = [name for name in names if name not in fleet.clusters]
    if unknown:
        raise GroundError(f"there is no cluster {', '.join(unknown)}", hint=f"clusters: {', '.join(fleet.clusters)}")
    for name in names or fleet.clusters:
        site.load_image(kind_name(name), image)


def _check(request: FleetRequest) -> None:
    asked = {"LIGHT=1": request.light, "flags of components": request.arguments, "kubeconfigs": request.kubeconfigs}
    refused = [name for name, value in asked.items() if value]
    if refused:
        raise GroundError(
            f"provider kind does not take {', '.join(refused)}", hint="leave it out, or use PROVIDER=local"
        )
