"""The agent's command line and start: what is wrong is told at once, in two lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncer.agent.process import cluster_credentials, find_proxy, read_policy
from syncer.agent.settings import AgentSettings
from syncer.cli.app import main
from syncer.errors import StartError


def test_without_a_file_the_default_policy_counts_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    assert read_policy(None).sync
    path = tmp_path / "policy.yaml"
    path.write_text("sinc: []\n")
    with pytest.raises(StartError, match="sinc"):
        read_policy(path)
    path.write_text("")
    assert not read_policy(path).sync


def test_a_cluster_that_is_not_described_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="kubeconfig"):
        cluster_credentials(AgentSettings((), tmp_path, kubeconfig=tmp_path / "none"), {})


def test_the_proxy_is_the_one_that_is_given_or_that_the_environment_names() -> None:
    environment = {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "near.example"}
    far = find_proxy("https://hub.example", environment, None)
    assert far is not None
    assert far.host == "proxy.example"
    assert find_proxy("https://near.example", environment, None) is None
    assert find_proxy("https://hub.example", environment, "") is None
    with pytest.raises(StartError, match="proxy"):
        find_proxy("https://hub.example", environment, "socks5://u:c4n4ry@x")
    with pytest.raises(StartError, match="no address of a hub"):
        find_proxy("http://hub.example", environment, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--http-bind", "nowhere"], "--http-bind must be HOST:PORT"),
        (["--log-level", "loud"], "--log-level is none of"),
        (["--log-format", "xml"], "--log-format is none of"),
        ([], "holds no credentials"),
    ],
)
def test_wrong_use_is_two_lines(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["agent", "--credentials", str(tmp_path), *arguments]) in (1, 2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert said in lines[0]
