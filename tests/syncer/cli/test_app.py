"""The command line itself: help, wrong use, and errors that reach the top."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
import yaml

from syncer.binds import flag_name
from syncer.cli import errors
from syncer.cli.app import main
from syncer.errors import TerminalError
from syncer.kube.errors import Unreachable
from syncer.settings import OperatorSettings
from tests.syncer.cli.conftest import TOKEN, FakeServer, Result, write_kubeconfig

Cli = Callable[..., Result]
COMMANDS = [
    ("crds",),
    ("operator",),
    ("target", "add"),
    ("target", "remove"),
    ("get", "targets"),
    ("get", "placements"),
    ("status",),
    ("explain",),
    ("pods",),
    ("cordon",),
    ("uncordon",),
    ("ack",),
    ("agent",),
    ("logs",),
    ("kubeconfig",),
    ("doctor",),
    ("upstream", "certificates"),
    ("upstream", "install"),
    ("token", "create"),
    ("join",),
    ("approve",),
    ("deny",),
]


def assert_two_lines(result: Result, code: int) -> None:
    """B38: one cause, one hint, nothing else, no secret."""
    assert result.code == code
    lines = result.err.splitlines()
    assert len(lines) == 2, result.err
    assert lines[0].startswith("error: ")
    assert len(lines[0]) > len("error: ")
    assert lines[1].startswith("hint: ")
    assert len(lines[1]) > len("hint: ")
    assert "Traceback" not in result.err
    assert TOKEN not in result.err + result.out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_teaches_with_an_example(cli: Cli, command: tuple[str, ...]) -> None:
    result = cli(*command, "--help")
    assert result.code == 0
    assert f"Usage: syncline {' '.join(command)}" in result.out
    assert re.search(rf"Examples?:\n(.*\n)*\s+(\S+=\S+ )?syncline {' '.join(command)}", result.out)


def test_the_first_help_lists_every_command_and_none_of_later_versions(cli: Cli) -> None:
    result = cli("--help")
    listed = set(re.findall(r"^  ([a-z]+)  ", result.out, re.MULTILINE))
    assert listed == {command[0] for command in COMMANDS}
    assert "Start here" in result.out


def test_help_imports_nothing_heavy() -> None:
    """What makes `--help` quick: neither HTTP, nor models, nor settings, nor YAML are loaded for it."""
    code = (
        "import sys; from syncer.cli import main; main(['target', 'add', '--help'])\n"
        "heavy = {'aiohttp', 'pydantic_settings', 'kopf', 'kubernetes', 'yaml', 'rich', 'cryptography', 'msgspec'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_version_is_printed(cli: Cli) -> None:
    assert re.fullmatch(r"syncline \d+\.\d+\.\d+\n", cli("--version").out)


def test_every_setting_of_the_operator_has_a_flag(cli: Cli) -> None:
    """Flags, variables and YAML agree in names."""
    text = cli("operator", "--help").out
    for field in OperatorSettings.model_fields:
        assert f"--{flag_name(field)} " in text, field


def test_crds_print_every_definition(cli: Cli) -> None:
    result = cli("crds")
    names = [document["spec"]["names"]["kind"] for document in yaml.safe_load_all(result.out)]
    assert (result.code, names) == (0, ["SyncTarget", "Placement", "ClusterPlacement", "ClusterRegistration"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("stauts",),
        ("get", "targets", "-o", "xml"),
        ("get", "targets", "--nonsense"),
        ("target", "add", "east"),
        ("target", "add"),
        ("cordon",),
        ("get", "placements", "-n", "a", "-A"),
        ("explain", "web"),
        ("status", "deploy/web/x"),
        ("target", "add", "East", "--target-kubeconfig", "x"),
        ("target", "add", "east", "--target-kubeconfig", "x", "--label", "nonsense"),
        ("target", "add", "east", "--target-kubeconfig", "x", "--use-kubeconfig-as-is", "--server", "https://x"),
        ("operator", "--http-bind", "nonsense"),
        ("operator", "--lease-seconds", "soon"),
    ],
    ids=" ".join,
)
def test_wrong_use_is_two_lines_and_exit_code_two(cli: Cli, upstream: FakeServer, arguments: tuple[str, ...]) -> None:
    """B38."""
    assert_two_lines(cli(*arguments), 2)


def test_a_misspelled_command_is_corrected(cli: Cli) -> None:
    assert "'status'" in cli("stauts").err


def test_the_plugin_shows_itself_as_kubectl_syncline(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-syncline"])
    assert "Usage: kubectl syncline status" in cli("status", "--help").out
    assert "hint: kubectl syncline get targets --help" in cli("get", "targets", "--nonsense").err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("folder", "cannot be read"),
        (b"\xff\xfe: [", "is not YAML"),
        (b"- a\n- b\n", "is not a kubeconfig"),
        (b"", "is not a kubeconfig"),
        (b"apiVersion: v1\nkind: Config\n", "current-context is not set"),
        (b"current-context: nowhere\n", "has no context 'nowhere'"),
        (b"clusters: 7\n", "is not a list"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_named(
    cli: Cli, tmp_path: Path, content: bytes | str | None, words: str
) -> None:
    """B38: missing, unreadable, of another form."""
    path = tmp_path / "config.yaml"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    result = cli("get", "targets", "--kubeconfig", path)
    assert_two_lines(result, 1)
    assert words in result.err
    assert str(path) in result.err


def test_an_unknown_context_is_answered_with_the_known_ones(cli: Cli, upstream: FakeServer) -> None:
    result = cli("get", "targets", "--context", "down")
    assert_two_lines(result, 1)
    assert "has no context 'down'; it has: up" in result.err


def test_a_cluster_that_does_not_answer_is_named_with_its_address(cli: Cli, tmp_path: Path) -> None:
    """A kubeconfig that points nowhere."""
    path = write_kubeconfig(tmp_path / "nowhere.yaml", "http://127.0.0.1:9")
    result = cli("get", "targets", "--kubeconfig", path)
    assert_two_lines(result, 1)
    assert "cannot reach upstream (http://127.0.0.1:9)" in result.err


def test_a_rejected_credential_is_told_without_showing_it(cli: Cli, upstream: FakeServer) -> None:
    """B38, S50: an expired or revoked token; the server repeats it, we do not."""
    refusal = {"kind": "Status", "code": 401, "reason": "Unauthorized", "message": f"bad token {TOKEN}"}
    upstream.routes["/apis/syncline.io/v1alpha1/synctargets"] = (401, refusal)
    result = cli("get", "targets")
    assert_two_lines(result, 1)
    assert "does not accept the credential" in result.err


def test_an_expired_client_certificate_is_named_as_the_cause(cli: Cli, upstream: FakeServer, tmp_path: Path) -> None:
    """B38: with the day on which it expired."""
    authority = trustme.CA()
    end = datetime(2020, 2, 3, tzinfo=UTC)
    issued = authority.issue_cert("someone", not_before=end - timedelta(days=1), not_after=end)
    path = write_kubeconfig(tmp_path / "old.yaml", upstream.url)
    config = yaml.safe_load(path.read_text())
    pem = {"client-certificate-data": issued.cert_chain_pems[0], "client-key-data": issued.private_key_pem}
    config["users"][0]["user"] = {key: base64.b64encode(blob.bytes()).decode() for key, blob in pem.items()}
    path.write_text(yaml.safe_dump(config))
    refusal = {"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"}
    upstream.routes["/apis/syncline.io/v1alpha1/synctargets"] = (401, refusal)
    result = cli("get", "targets", "--kubeconfig", path)
    assert_two_lines(result, 1)
    assert "its client certificate expired on 2020-02-03" in result.err


@pytest.mark.parametrize("code", [400, 403, 409, 422, 500, 503])
def test_every_refusal_of_an_api_server_is_two_lines(cli: Cli, upstream: FakeServer, code: int) -> None:
    """S50: also where the server repeats a bearer token."""
    status = {
        "kind": "Status",
        "code": code,
        "reason": "X",
        "message": f"no\n\x1b[2Jway: Authorization: Bearer {TOKEN}",
    }
    upstream.routes["/apis/syncline.io/v1alpha1/synctargets"] = (code, status)
    result = cli("get", "targets")
    assert_two_lines(result, 1)
    assert "\x1b" not in result.err


def test_an_answer_that_is_no_json_is_two_lines(cli: Cli, upstream: FakeServer) -> None:
    upstream.routes["/apis/syncline.io/v1alpha1/synctargets"] = "a text"
    assert_two_lines(cli("get", "targets"), 1)


def test_a_bug_is_told_in_two_lines_without_its_text(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, upstream: FakeServer
) -> None:
    """S50: an exception's own text may hold anything."""

    def broken(*_: object) -> None:
        raise KeyError(TOKEN)

    monkeypatch.setattr("syncer.cli.access.choose", broken)
    result = cli("get", "targets")
    assert_two_lines(result, 1)
    assert "internal error: KeyError at test_app.py:" in result.err


def test_interrupting_is_quiet_and_130(monkeypatch: pytest.MonkeyPatch, cli: Cli, upstream: FakeServer) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("syncer.cli.access.choose", interrupted)
    result = cli("get", "targets")
    assert (result.code, result.err.strip(), result.out) == (130, "", "")


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m syncer.cli crds | head -c 10"
    done = subprocess.run(command, shell=True, capture_output=True, timeout=60, check=False)
    assert done.stderr == b""


def test_errors_without_words_of_our_own_still_have_a_hint() -> None:
    assert errors.explain(TerminalError("Frozen", "x"))[1].startswith("Check that the many deletions")
    assert errors.explain(TerminalError("Strange", "x"))[1]
    assert errors.explain(Unreachable(0, "Unreachable", "x"))[1]
    assert errors.explain(FileNotFoundError(2, "No such file", "a.yaml"))[0] == "a.yaml: No such file"
    assert errors.explain(ValueError("x"))[0] == "internal error: ValueError"


def test_debug_shows_the_traceback_and_still_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("Authorization: Bearer abc.def")

    monkeypatch.setattr("syncer.cli.access.choose", broken)
    monkeypatch.setenv("SYNCLINE_DEBUG", "1")
    assert main(["get", "targets"]) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "abc.def" not in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which target?"),
        (["east", "--all"], "--all takes no name"),
        (["--all", "--no-wait"], "--all takes no name"),
        (["east", "--no-wait", "--target-kubeconfig", "f"], "--target-kubeconfig and --no-wait"),
    ],
)
def test_target_remove_takes_one_or_all(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["target", "remove", *arguments]) == 2
    assert said in capsys.readouterr().err
