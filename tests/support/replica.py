"""A replica for tests of the election: takes part, and writes a ConfigMap as fast as it may while it leads.

Prints one JSON line per event: {"at": monotonic seconds of this machine, "what": leading | lost | refused}.
Arguments: kubeconfig, Lease name, ConfigMap namespace, ConfigMap name, lease, renew and retry seconds.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time

from syncer.errors import NotLeadingError, SyncError
from syncer.kube.client import MERGE_PATCH, ClusterClient
from syncer.kube.credentials import ClusterCredentials
from syncer.kube.objects import ResourceInfo
from syncer.lease import Lease, LeaseTiming
from syncer.logs import configure_logs
from syncer.metrics import Metrics

CONFIGMAPS = ResourceInfo("", "v1", "configmaps", "ConfigMap", namespaced=True)


def tell(what: str) -> None:
    sys.stdout.write(json.dumps({"at": time.monotonic(), "what": what}) + "\n")
    sys.stdout.flush()


async def write_for_ever(client: ClusterClient, lease: Lease, namespace: str, name: str) -> None:
    """Every write carries our identity and the time at which it was decided."""
    while True:
        await lease.wait_leading()
        tell("leading")
        while lease.leads:
            body = json.dumps({"data": {"by": lease.identity, "at": str(time.monotonic())}}).encode()
            try:
                await client.patch(CONFIGMAPS, namespace, name, body, MERGE_PATCH)
            except NotLeadingError:
                tell("refused")
            except SyncError:
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.02)
        tell("lost")


async def main() -> None:
    configure_logs(form="console")
    kubeconfig, lease_name, namespace, name, *times = sys.argv[1:]
    timing = LeaseTiming(*map(float, times))
    control = ClusterClient(ClusterCredentials.from_kubeconfig(kubeconfig), name="upstream")
    lease = Lease(control, Metrics(), timing=timing, name=lease_name)
    client = ClusterClient(ClusterCredentials.from_kubeconfig(kubeconfig), name="upstream", guard=lease.check)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    tasks = [asyncio.create_task(lease.run()), asyncio.create_task(write_for_ever(client, lease, namespace, name))]
    await stop.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await lease.release()
    await client.close()
    await control.close()


if __name__ == "__main__":
    asyncio.run(main())
