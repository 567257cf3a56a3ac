"""Which test files share a fleet, and so a worker.

A whole fleet takes 17 s of CPU to start and a tenth of a core while it idles, and three of the inotify instances that a
user may have for each API server. So of the workers of `make test` only those start one that take its lane, and the
session's fleet ends as soon as its lane does.
"""

from __future__ import annotations

from typing import Final

_LANES: Final = {
    # The session's fleet, halved by time.
    "engine": """
        syncer/engine/test_real_inline syncer/engine/test_real_jobs syncer/engine/test_real_labels
        syncer/engine/test_real_placement syncer/engine/test_real_reports syncer/engine/test_real_safety
        syncer/engine/test_real_safety_deletion syncer/engine/test_real_safety_namespaces
        syncer/engine/test_real_safety_restarts syncer/engine/test_real_sync syncer/engine/test_real_throttled
        """,
    "edges": """
        deploy/helm/test_hosted_chart deploy/test_fake_pods deploy/test_fleet
        status/test_real_custom status/test_real_job status/test_real_kinds status/test_real_workloads
        syncer/api/test_crds_on_server syncer/api/test_rbac syncer/cli/test_hosted syncer/cli/test_registration
        syncer/engine/test_real_apply syncer/hub/test_proxy_kubectl syncer/hub/test_registry
        syncer/hub/test_tunnel_targets syncer/kube/test_apply_on_real_servers
        syncer/kube/test_informer_on_real_servers syncer/kube/test_stream_connector
        syncer/placement/test_targets syncer/test_events syncer/test_lease_real syncer/transform/test_real
        syncer/webhooks/test_webhooks_down syncer/webhooks/test_webhooks_on_server
        """,
    # tests/e2e/conftest.py
    "installation": """
        e2e/test_bad_input e2e/test_doctor e2e/test_doors e2e/test_first_day e2e/test_inline e2e/test_targets
        """,
    "light installation": "e2e/test_kill e2e/test_process e2e/test_scale_and_removal e2e/test_sick_target",
}
LANE_OF: Final = {f"tests/{name}.py": lane for lane, names in _LANES.items() for name in names.split()}
SHARED: Final = {"fleet": {"engine", "edges"}, "installation": {"installation"}, "light_fleet": {"light installation"}}


def misplaced(file: str, fixtures: set[str]) -> str:
    """Why a file that uses these fixtures is in no lane or in the wrong one, "" if it is where it belongs."""
    for fixture in fixtures & SHARED.keys():
        if LANE_OF.get(file) not in SHARED[fixture]:
            return f"{file} uses {fixture}: name it in tests/lanes.py, lane {' or '.join(sorted(SHARED[fixture]))}"
    return ""
