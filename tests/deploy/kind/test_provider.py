"""What the provider refuses, and how it cleans up after clusters of the stock way."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.local import cli, kubeconfigs
from deploy.local.certificates import Authority
from deploy.local.errors import GroundError
from deploy.local.kind import ways
from deploy.local.kind.cli import app
from deploy.local.kind.provider import MARK, KindProvider, command_environment, load
from deploy.local.kind.site import STOCK, Site
from deploy.local.plan import FleetRequest
from deploy.local.providers import provider


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (FleetRequest(light=True), "LIGHT=1"),
        (FleetRequest(arguments={"apiserver": ("--v=2",)}), "flags of components"),
        (FleetRequest(kubeconfigs={"east": Path("east")}), "kubeconfigs"),
    ],
)
def test_what_real_clusters_cannot_be_asked_is_refused(tmp_path: Path, request_: FleetRequest, told: str) -> None:
    with pytest.raises(GroundError, match=f"provider kind does not take {told}"):
        KindProvider(tmp_path / "fleet").up(request_, pytest.fail)
    assert not (tmp_path / "fleet").exists()


def test_down_without_a_fleet_is_fine(tmp_path: Path) -> None:
    KindProvider(tmp_path / "missing").down(pytest.fail)
    assert not (tmp_path / "missing").exists()


def killed_up(folder: Path, kind: str) -> Path:
    """What a killed `up` of the stock way leaves, with a script in the place of kind."""
    script = folder / "kind-command"
    (folder / MARK / "east").mkdir(parents=True)
    script.write_text(f"#!/bin/sh\n{kind}\n")
    script.chmod(0o755)
    Site(STOCK, script).save(folder / MARK)
    return folder


def test_what_a_killed_up_left_is_deleted_by_down(tmp_path: Path) -> None:
    folder = killed_up(tmp_path / "fleet", f'echo "$@" >> {tmp_path}/calls')
    said: list[str] = []
    assert cli._provider_of(folder) == "kind"
    KindProvider(folder).down(said.append)
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.startswith("delete cluster --name=syncline-east --kubeconfig=")
    assert said == ["1 clusters deleted"]
    assert not (folder / MARK).exists()


def test_clusters_that_cannot_be_deleted_are_not_forgotten(tmp_path: Path) -> None:
    folder = killed_up(tmp_path / "fleet", "echo the engine is gone >&2; exit 1")
    with pytest.raises(GroundError, match="the engine is gone"):
        KindProvider(folder).down(lambda line: None)
    assert (folder / MARK / "site.json").exists()


def test_no_other_provider_takes_the_folder_of_a_kind_fleet(tmp_path: Path) -> None:
    killed_up(tmp_path, "true")
    for name in ("local", "existing"):
        with pytest.raises(GroundError, match="a kind fleet is up in"):
            provider(name, tmp_path)
    assert isinstance(provider("kind", tmp_path), KindProvider)


def test_a_command_finds_the_fleet_and_its_tools(tmp_path: Path) -> None:
    folder = killed_up(tmp_path, "true")
    entry = {"name": "upstream", "kubeconfig": f"{folder}/u", "server": "https://127.0.0.1:1", "address": "10.202.0.2"}
    fleet = {"provider": "kind", "upstream": entry, "targets": {}, "assets": "/a", "request": {}, "inside": ["nsenter"]}
    (folder / "fleet.json").write_text(json.dumps(fleet))
    inside, environ = command_environment(folder)
    assert inside == ()
    assert environ["PATH"].startswith(f"{folder}:/a:")
    assert environ["KUBECONFIG"] == f"{folder}/kubeconfig"
    assert environ["SYNCLINE_TEST_FLEET"] == str(folder)
    said = CliRunner().invoke(cli.app, ["env", "--dir", str(folder)])
    assert f"export KUBECONFIG={folder}/kubeconfig" in said.stdout
    assert "inside their own network only" in said.stderr
    with pytest.raises(GroundError, match="there is no cluster north") as caught:
        load(folder, "image", ["north"])
    assert caught.value.hint == "clusters: upstream"


@pytest.mark.parametrize("command", [["exec", "--", "true"], ["load", "image"]])
def test_commands_without_a_fleet_say_how_to_get_one(tmp_path: Path, command: list[str]) -> None:
    said = CliRunner().invoke(app, [command[0], "--dir", str(tmp_path), *command[1:]])
    assert said.exit_code == 1
    cause, hint = said.stderr.splitlines()
    assert cause == f"error: no kind fleet is up in {tmp_path}"
    assert hint == "hint: start one with `make up PROVIDER=kind`"


def test_a_picture_that_was_never_saved_is_told(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["traces", "compare", str(tmp_path / "missing.json")])
    assert said.exit_code == 1
    assert "hint: save one before `make up`" in said.stderr


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an engine, kind and kubectl, all of them scripts that write down how they are called."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    pair = Authority.create("kubernetes", now=datetime.datetime.now(datetime.UTC)).pair
    (tmp_path / "ca.crt").write_bytes(pair.certificate)
    (tmp_path / "ca.key").write_bytes(pair.key)
    endpoint = kubeconfigs.Endpoint("https://127.0.0.1:7", pair.certificate)
    (tmp_path / "given").write_text(kubeconfigs.as_text(kubeconfigs.kubeconfig("kind-x", endpoint, pair, user="u")))
    scripts = {
        "docker": f"""case "$1" in
            exec) cat {tmp_path}/"${{4##*/}}";;
            inspect) echo 172.18.0.2;;
            ps) echo running;;
            esac""",
        "kind": f"""echo "$@" >> {tmp_path}/calls
            case "$1 $2" in
            "get clusters") cat {tmp_path}/clusters;;
            "create cluster") if [ -e {tmp_path}/broken ]; then echo no space left >&2; exit 1; fi
                for word in "$@"; do case $word in --kubeconfig=*) cp {tmp_path}/given "${{word#*=}}";; esac; done;;
            esac""",
        "kubectl": "echo ok",
    }
    for name, script in scripts.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (bin_folder / name).chmod(0o755)
    (tmp_path / "clusters").touch()
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for variable in ("SYNCLINE_ASSETS", "KUBEBUILDER_ASSETS", ways.WAY_VARIABLE, ways.IMAGE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def calls(laptop: Path, verb: str) -> list[str]:
    return [line for line in (laptop / "calls").read_text().splitlines() if line.startswith(verb)]


def test_a_fleet_of_stock_clusters_is_made_found_again_and_deleted(laptop: Path) -> None:
    request = FleetRequest(targets=("east",))
    kinds = KindProvider(laptop / "fleet", owner_pid=os.getpid())
    fleet = kinds.up(request, lambda line: None)
    assert list(fleet.clusters) == ["upstream", "east"]
    assert fleet.inside == ()
    assert {cluster.address for cluster in fleet.clusters.values()} == {"172.18.0.2"}
    assert len(calls(laptop, "create cluster")) == 2
    assert all(f"--image={ways.STOCK_IMAGE}" in call for call in calls(laptop, "create cluster"))
    alice = kubeconfigs.load(fleet.targets["east"].user("alice"))["users"][0]["user"]
    assert set(alice) == {"client-certificate-data", "client-key-data"}
    again = kinds.up(request, pytest.fail)
    assert again.as_json() == fleet.as_json()
    assert len(calls(laptop, "create cluster")) == 2
    with pytest.raises(GroundError, match="another fleet is up"):
        kinds.up(FleetRequest(targets=("north",)), pytest.fail)
    kinds.down(lambda line: None)
    assert len(calls(laptop, "delete cluster")) == 2
    assert sorted(path.name for path in fleet.folder.iterdir()) == ["lock", "logs"]


def test_clusters_of_somebody_else_are_not_touched(laptop: Path) -> None:
    (laptop / "clusters").write_text("syncline-east\nother\n")
    with pytest.raises(GroundError, match="exist already: syncline-east"):
        KindProvider(laptop / "fleet").up(FleetRequest(), lambda line: None)
    assert calls(laptop, "delete") == []


def test_a_cluster_that_cannot_be_made_takes_the_others_with_it_and_leaves_its_log(laptop: Path) -> None:
    (laptop / "broken").touch()
    with pytest.raises(GroundError, match="no space left") as caught:
        KindProvider(laptop / "fleet").up(FleetRequest(targets=("east",)), lambda line: None)
    assert len(calls(laptop, "delete cluster")) == 2
    log = Path(caught.value.hint.removeprefix("see "))
    assert "no space left" in log.read_text()
    assert sorted(path.name for path in (laptop / "fleet").iterdir()) == ["lock", "logs"]
