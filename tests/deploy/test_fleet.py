"""What `up` leaves on disk: fleet.json as the contract has it, and kubeconfigs that carry everything inline."""

from __future__ import annotations

import base64
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from deploy.local import kubeconfigs
from deploy.local.certificates import KeyPair
from deploy.local.errors import GroundError
from deploy.local.files import write_json
from deploy.local.fleet import Cluster, Fleet
from deploy.local.plan import FleetRequest, plan_clusters, ports_needed
from deploy.local.processes import Record
from deploy.local.startup import write_credentials


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A fleet of upstream and east, with its credentials, of which no process runs."""
    request = FleetRequest(targets=("east",))
    clusters = {}
    for plan in plan_clusters(request, tmp_path, list(range(20_000, 20_000 + ports_needed(request)))):
        write_credentials(plan)
        clusters[plan.name] = Cluster(plan.name, plan.folder / "admin.kubeconfig", plan.server, tmp_path)
    upstream = clusters.pop("upstream")
    fleet = Fleet(tmp_path, "local", upstream, clusters, Path("/assets"), request.as_json())
    fleet.table.run.mkdir()
    for number, name in enumerate(["etcd", "upstream.apiserver", "east.apiserver", "east.kwok", "operator"]):
        fleet.table.save(Record(name, 4_000_000 + number, 1.0))
    return fleet


def certificate_of(path: Path) -> x509.Certificate:
    user = kubeconfigs.current(kubeconfigs.load(path))[1]
    return x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"]))


def names(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str | bytes]:
    return [attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid)]


def test_fleet_json_has_the_shape_that_scripts_rely_on(fleet: Fleet) -> None:
    fleet.save()
    data = json.loads((fleet.folder / "fleet.json").read_text())
    assert data["assets"] == "/assets"
    assert data["upstream"] == {
        "name": "upstream",
        "kubeconfig": f"{fleet.folder}/clusters/upstream/admin.kubeconfig",
        "server": fleet.upstream.server,
        "pids": {"apiserver": 4_000_001, "etcd": 4_000_000},
        "users": {},
    }
    assert list(data["targets"]) == ["east"]
    assert data["targets"]["east"]["pids"] == {"apiserver": 4_000_002, "kwok": 4_000_003, "etcd": 4_000_000}


def test_a_saved_fleet_is_read_back_as_it_was(fleet: Fleet) -> None:
    fleet.save()
    assert Fleet.load(fleet.folder) == fleet
    assert list(fleet.clusters) == ["upstream", "east"]


def test_a_folder_without_a_fleet_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(GroundError, match="no fleet is up") as caught:
        Fleet.load(tmp_path)
    assert "make up" in caught.value.hint


def test_every_file_with_a_credential_is_for_its_owner_only(fleet: Fleet) -> None:
    fleet.upstream.user("alice")
    files = [path for path in (fleet.folder / "clusters").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"admin.kubeconfig", "ca.key", "sa.key", "alice.kubeconfig"}
    assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_kubeconfigs_name_no_files_and_run_no_commands(fleet: Fleet) -> None:
    """B29: the credentials of a fleet are what the operator accepts."""
    cluster, user = kubeconfigs.current(kubeconfigs.load(fleet.upstream.kubeconfig))
    assert set(cluster) == {"server", "certificate-authority-data"}
    assert set(user) == {"client-certificate-data", "client-key-data"}


def test_a_plain_user_has_a_name_and_groups_and_nothing_else(fleet: Fleet) -> None:
    alice = certificate_of(fleet.upstream.user("alice", groups=["developers"]))
    assert names(alice, NameOID.COMMON_NAME) == ["alice"]
    assert names(alice, NameOID.ORGANIZATION_NAME) == ["developers"]
    assert alice.not_valid_before_utc < datetime.datetime.now(datetime.UTC) < alice.not_valid_after_utc


def test_a_plain_user_is_made_once(fleet: Fleet) -> None:
    assert certificate_of(fleet.upstream.user("alice")) == certificate_of(fleet.upstream.user("alice"))


def test_clusters_do_not_trust_each_others_authority(fleet: Fleet) -> None:
    ours, theirs = (
        x509.load_pem_x509_certificate((cluster.kubeconfig.parent / "pki" / "ca.crt").read_bytes())
        for cluster in fleet.clusters.values()
    )
    alice = certificate_of(fleet.upstream.user("alice"))
    alice.verify_directly_issued_by(ours)
    with pytest.raises(ValueError, match="does not match"):
        alice.verify_directly_issued_by(theirs)


def test_a_component_that_is_not_there_is_named_with_those_that_are(fleet: Fleet) -> None:
    with pytest.raises(GroundError, match="cluster upstream has no process kwok") as caught:
        fleet.upstream.stop("kwok")
    assert caught.value.hint == "processes: apiserver, etcd"


def test_a_process_that_ended_cannot_be_stopped(fleet: Fleet) -> None:
    with pytest.raises(GroundError, match="apiserver of cluster east does not run"):
        fleet.targets["east"].stop()


def test_merged_kubeconfigs_have_a_context_for_each_cluster(fleet: Fleet) -> None:
    configs = {name: kubeconfigs.load(cluster.kubeconfig) for name, cluster in fleet.clusters.items()}
    merged = kubeconfigs.merged(configs)
    assert merged["current-context"] == "upstream"
    assert [context["name"] for context in merged["contexts"]] == ["upstream", "east"]
    assert len({user["name"] for user in merged["users"]}) == 2


def test_the_current_context_of_any_kubeconfig_becomes_one_with_our_name() -> None:
    config = kubeconfigs.merged(
        {name: kubeconfigs.kubeconfig(name, ENDPOINT, PAIR, user="me") for name in ("one", "two")}
    )
    config["current-context"] = "two"
    ours = kubeconfigs.with_context(config, "east")
    assert ours["current-context"] == "east"
    assert [part[0]["name"] for part in (ours["clusters"], ours["contexts"])] == ["east", "east"]
    assert kubeconfigs.current(ours) == kubeconfigs.current(config)


ENDPOINT = kubeconfigs.Endpoint("https://127.0.0.1:1", b"ca")
PAIR = KeyPair(b"certificate", b"key")
WHOLE: dict[str, Any] = kubeconfigs.kubeconfig("one", ENDPOINT, PAIR, user="me")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("not a kubeconfig", "is not a kubeconfig"),
        ("{", "is not a kubeconfig"),
        (yaml.safe_dump({**WHOLE, "users": None}), "is not a kubeconfig"),
        (yaml.safe_dump({**WHOLE, "current-context": ""}), "current-context is missing"),
        (yaml.safe_dump({**WHOLE, "users": []}), "me@one is missing"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_refused_with_the_part_at_fault(
    tmp_path: Path, config: str, message: str
) -> None:
    """B38: one line, and nothing of the file's content in it."""
    path = tmp_path / "kubeconfig"
    path.write_text(config)
    with pytest.raises(GroundError, match=message):
        kubeconfigs.current(kubeconfigs.load(path))


def test_a_missing_kubeconfig_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GroundError, match="No such file"):
        kubeconfigs.load(tmp_path / "missing")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
