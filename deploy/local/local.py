"""Provider `local`: control planes as plain processes on loopback; no root, no container engine."""

from __future__ import annotations

import os
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.local import components, ports
from deploy.local.assets import Assets
from deploy.local.build import ensure
from deploy.local.errors import GroundError
from deploy.local.files import alone
from deploy.local.fleet import FLEET_FILE, Cluster, Fleet, write_kubeconfigs
from deploy.local.plan import UPSTREAM, FleetRequest, plan_clusters, ports_needed
from deploy.local.processes import ETCD, ProcessTable
from deploy.local.provider import Report, Row
from deploy.local.startup import ClusterStart, Launcher, PortTakenError

_ATTEMPTS = 3
_STARTING_AT_ONCE = max(4, 2 * (os.cpu_count() or 1))  # more would starve each other past their own start deadlines
_GARBAGE = 400  # percent, for GOGC: a sixth less CPU for half as much memory again, in fleets of few clusters
_FEW_CLUSTERS = 8
_STATE = ("clusters", "run", "etcd", "home", "agents", FLEET_FILE, "kubeconfig")


class LocalProvider:
    """Fleets of plain processes.

    Args:
        folder: where their state lies; made when missing.
        owner_pid: the fleet ends once this process is gone; None lets it stay.
    """

    def __init__(self, folder: Path, *, owner_pid: int | None = None) -> None:
        self.folder = folder.absolute()
        self.table = ProcessTable(self.folder)
        self._owner_pid = owner_pid

    def up(self, request: FleetRequest, report: Report) -> Fleet:
        """Start a fleet, or return the one that runs; what has died in it is started again."""
        with alone(self.folder):
            if fleet := self._running(request, report):
                return fleet
            assets = ensure(os.environ, report)
            try:
                for _ in range(_ATTEMPTS):
                    self._clean()
                    try:
                        return self._start(request, assets, report)
                    except PortTakenError as error:
                        report(f"{error}; trying other ports")
                raise GroundError(f"no free ports after {_ATTEMPTS} attempts")
            except BaseException:
                self.table.end_everything(grace_seconds=1)
                raise

    def down(self, report: Report) -> None:
        """End everything and drop all state but the logs."""
        if not self.folder.exists():
            return
        with alone(self.folder):
            ended = self._clean()
            report(f"{len(ended)} processes ended" if ended else "nothing was running")

    def status(self) -> list[Row]:
        """How each process is."""
        fleet = Fleet.load(self.folder)
        return [
            Row(cluster.name, component, record.pid, "running" if record.alive else "ended")
            for cluster in fleet.clusters.values()
            for component, record in cluster.processes.items()
        ]

    def _running(self, request: FleetRequest, report: Report) -> Fleet | None:
        if not (self.folder / FLEET_FILE).exists():
            return None
        fleet = Fleet.load(self.folder)
        supervisor = self.table.read("supervisor")
        if fleet.provider != "local" or not supervisor or not supervisor.alive:
            return None
        if fleet.request != request.as_json():
            raise GroundError(
                f"another fleet is up in {self.folder}: targets {', '.join(fleet.targets)}",
                hint="end it with `make down`, or use another folder: `make up DIR=.local-2`",
            )
        for cluster in fleet.clusters.values():
            for component, record in sorted(cluster.processes.items(), key=lambda item: item[0] != ETCD):
                if not record.alive:
                    report(f"{cluster.name}: {component} had ended, starting it again")
                    cluster.start(component)
        return fleet

    def _clean(self) -> list[str]:
        """End what an earlier fleet left, finished or not, and remove its state; logs stay."""
        ended = self.table.end_everything()
        for name in _STATE:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return [record.name for record in ended]

    def _start(self, request: FleetRequest, assets: Assets, report: Report) -> Fleet:
        began = time.monotonic()
        rng = random.Random()  # noqa: S311  decides nothing but the order of trying ports
        chosen = ports.choose(ports_needed(request), rng=rng)
        plans = plan_clusters(request, self.folder, chosen)
        self.table.ensure_supervisor(owner_pid=self._owner_pid)
        etcd = components.etcd(assets.paths["etcd"], self.folder / "etcd", client_port=chosen[0], peer_port=chosen[1])
        environ = {"GOGC": str(_GARBAGE)} if len(plans) <= _FEW_CLUSTERS else {}
        launcher = Launcher(self.table, request.arguments, environ)
        launcher.launch(ETCD, etcd)
        report(f"starting {len(plans)} control planes with binaries of {assets.source}")
        with ThreadPoolExecutor(_STARTING_AT_ONCE) as pool:
            starts = [
                pool.submit(ClusterStart(plan, launcher, assets.paths, nodes=request.nodes).run) for plan in plans
            ]
            try:
                for plan, start in zip(plans, starts, strict=True):
                    start.result()
                    report(f"{plan.name} is ready at {plan.server}, {time.monotonic() - began:.1f} s")
            except BaseException:
                launcher.abandoned.set()
                pool.shutdown(cancel_futures=True)
                raise
        clusters = {
            plan.name: Cluster(plan.name, plan.folder / "admin.kubeconfig", plan.server, self.folder) for plan in plans
        }
        write_kubeconfigs(self.folder, clusters, request.users)
        upstream = clusters.pop(UPSTREAM)
        fleet = Fleet(self.folder, "local", upstream, clusters, assets.folder, request.as_json())
        fleet.save()
        return fleet
