"""Columns, ages, and text from clusters that must not reach a terminal as it is."""

from __future__ import annotations

import pytest

from syncer.cli.errors import explain, printable
from syncer.cli.output import Output, Progress, age, columns, emit_data, since
from syncer.kube.errors import error_from_status


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (-3, "0s"), (59.9, "59s"), (60, "1m"), (90, "90s"), (150, "2m"), (7200, "2h"), (259200, "3d")],
)
def test_an_age_has_one_unit(seconds: float | None, text: str) -> None:
    assert age(seconds) == text


def test_since_counts_from_a_time_and_survives_another_form() -> None:
    assert since("2026-11-21T09:00:00Z", now=1795251600.0 + 125) == "2m"
    assert since("") == "-"
    assert since("yesterday") == "-"


def test_columns_are_aligned_and_the_last_is_not_padded() -> None:
    assert columns(["A", "LONG"], [["xx", ""], [None, 3]]) == "A    LONG\nxx   -\n-    3"
    assert columns([], []) == ""


def test_control_characters_from_a_cluster_never_reach_the_terminal() -> None:
    """B27: newlines, escape sequences and direction marks become blanks."""
    assert printable("a\x1b[31mb\nc\u202ed\x9bm") == "a [31mb c d m"


@pytest.mark.parametrize(
    "secret",
    [
        "Bearer abcdef.secret",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
        "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----",
        "TUlJRXZR" * 20,
    ],
)
def test_credentials_in_a_message_are_hidden(secret: str) -> None:
    """S50: tokens, keys and their base64 form."""
    shown = printable(f"server said: {secret} is wrong")
    assert shown == "server said: (hidden) is wrong"


def test_json_and_yaml_hold_the_same_data(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    import yaml

    data = {"items": [{"name": "ost", "text": "grüß"}]}
    assert emit_data(data, Output.JSON)
    assert json.loads(capsys.readouterr().out) == data
    assert emit_data(data, Output.YAML)
    assert yaml.safe_load(capsys.readouterr().out) == data
    assert not emit_data(data, Output.WIDE)
    assert not emit_data(data, None)


def test_progress_is_plain_lines_on_stderr_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress.doing("reaching east")
        progress.done("reached east")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("  ✓ reached east  (0.")


def test_progress_on_a_terminal_shows_what_is_under_way_and_keeps_what_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Progress() as progress:
        progress.doing("reaching [east]\x1b[2J")
        progress.done("reached [east]")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "✓ reached [east]" in captured.err
    assert "\x1b[2J" not in captured.err


def test_what_admission_denies_is_no_matter_of_rights() -> None:
    """Our own webhooks refuse too: who reads the answer must not go and ask for a role."""
    said = 'admission webhook "validate.webhooks.syncline.io" denied the request: spec.targets: give one of …'
    cause, hint, code = explain(error_from_status(422, None, fallback=said))
    assert said in cause
    assert hint == "Correct what the message names and try again."
    assert code == 1
