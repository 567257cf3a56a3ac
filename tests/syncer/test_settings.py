"""Settings: flags, variables and YAML agree in names, and wrong ones are told in two lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from syncer.binds import Bind, flag_name
from syncer.settings import (
    OperatorSettings,
    SettingsError,
    load_settings,
    unknown_variables,
    variable_name,
)

EXAMPLES: dict[str, tuple[str, object]] = {
    # field: (text for a flag or a variable, the value it means)
    "kubeconfig": ("/etc/up.yaml", Path("/etc/up.yaml")),
    "context": ("upstream", "upstream"),
    "http_bind": ("127.0.0.1:1", Bind("127.0.0.1", 1)),
    "hub_bind": ("[::1]:65535", Bind("::1", 65535)),
    "hub_url": ("https://hub.example:8443", "https://hub.example:8443"),
    "hub_names": ("hub.svc, 10.0.0.9", ("hub.svc", "10.0.0.9")),
    "replica_url": ("https://10.0.0.7:8443", "https://10.0.0.7:8443"),
    "agent_url": ("https://hub.example:8443", "https://hub.example:8443"),
    "webhooks": ("off", "off"),
    "webhook_bind": ("[::1]:9443", Bind("::1", 9443)),
    "webhook_url": ("https://hook.example/x", "https://hook.example/x"),
    "leader_elect": ("false", False),
    "lease_seconds": ("14", 14.0),
    "lease_renew_seconds": ("9", 9.0),
    "lease_retry_seconds": ("1.5", 1.5),
    "drain_seconds": ("3", 3.0),
    "probe_seconds": ("7", 7.0),
    "probe_timeout_seconds": ("2", 2.0),
    "probe_failures": ("5", 5),
    "approve_registrations": ("edge-*, region=eu*", ("edge-*", "region=eu*")),
    "log_level": ("debug", "debug"),
    "log_format": ("json", "json"),
    "feature_gates": ("Views=false,Quota=false", {"Views": False, "Quota": False}),
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SYNCLINE_"):
            monkeypatch.delenv(name)


def test_the_examples_cover_every_setting() -> None:
    assert EXAMPLES.keys() == OperatorSettings.model_fields.keys()


@pytest.mark.parametrize("field", EXAMPLES)
def test_flag_variable_and_yaml_mean_the_same(field: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text, value = EXAMPLES[field]
    by_flag = load_settings({field: text})
    with monkeypatch.context() as patch:
        patch.setenv(variable_name(field), text)
        by_variable = load_settings({})
    camel = "".join(part.title() if i else part for i, part in enumerate(field.split("_")))
    for key in (flag_name(field), field, camel):
        file = tmp_path / "config.yaml"
        file.write_text(f"{key}: {text!r}\n")
        assert load_settings({}, file) == by_flag
    assert getattr(by_flag, field) == value
    assert by_variable == by_flag


def test_a_flag_beats_a_variable_and_a_variable_beats_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("log-level: error\nlog-format: json\ndrain-seconds: 1\n")
    monkeypatch.setenv("SYNCLINE_LOG_LEVEL", "warning")
    monkeypatch.setenv("SYNCLINE_LOG_FORMAT", "console")
    settings = load_settings({"log_level": "debug", "log_format": None}, file)
    assert (settings.log_level, settings.log_format, settings.drain_seconds) == ("debug", "console", 1)


def test_the_file_may_be_named_by_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("log-level: error\n")
    monkeypatch.setenv("SYNCLINE_CONFIG", str(file))
    assert load_settings({}).log_level == "error"


def test_yaml_off_is_the_word_off(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("webhooks: off\n")
    assert load_settings({}, file).webhooks == "off"


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("# nothing\n")
    assert load_settings({}, file) == load_settings({})


@pytest.mark.parametrize(
    ("content", "cause", "hint"),
    [
        ("htp-bind: 127.0.0.1:1\n", "unknown key 'htp-bind'", "did you mean http-bind?"),
        ("zzz: hunter2\n", "unknown key 'zzz'", "--help"),
        ("http-bind: [unclosed\n", "invalid YAML at line 2", "name: value"),
        ("- a\n", "must hold a mapping", "name: value"),
        ("http-bind: 1\n", "http-bind: must be HOST:PORT", "http-bind is:"),
        ("http-bind: 127.0.0.1:70000\n", "http-bind: must be HOST:PORT", "http-bind is:"),
        ("http-bind: a:1\nhttpBind: a:2\n", "http-bind is set twice", "one of the two"),
        ("log-level: hunter2\n", "log-level: Input should be", "log-level is:"),
        ("hub-url: http://plain\n", "hub-url:", "hub-url is:"),
        ("hub-url: https://user:hunter2@hub/\n", "hub-url:", "hub-url is:"),
        ("feature-gates: {Wonder: true}\n", "unknown feature gate 'Wonder'", "NAME=true"),
        ("feature-gates: {Views: true}\n", "NotYetSupported: feature gate Views", "NAME=true"),
        ("lease-renew-seconds: 15\n", "lease-retry-seconds x 2", "--help"),
        ("a: &a [hunter2]\nb: *a\n\tc\n", "invalid YAML", "name: value"),
    ],
)
def test_a_wrong_file_gives_one_cause_and_one_hint(content: str, cause: str, hint: str, tmp_path: Path) -> None:
    """B38: named by key, without any value, exit code 2."""
    file = tmp_path / "config.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load_settings({}, file)
    error = caught.value
    assert cause in error.cause
    assert hint in error.hint
    assert error.exit_code == 2
    assert "\n" not in error.cause + error.hint
    assert "hunter2" not in error.cause + error.hint


@pytest.mark.parametrize("kind", ["missing", "folder", "huge"])
def test_an_unreadable_file_gives_one_cause_and_one_hint(kind: str, tmp_path: Path) -> None:
    """B38."""
    file = tmp_path / "config.yaml"
    if kind == "folder":
        file.mkdir()
    elif kind == "huge":
        file.write_bytes(b"#" * (2 << 20))
    with pytest.raises(SettingsError) as caught:
        load_settings({}, file)
    assert str(file) in caught.value.cause
    assert caught.value.exit_code == 2


def test_the_place_of_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"log_level": "loud"})
    assert caught.value.cause.startswith("--log-level: ")
    monkeypatch.setenv("SYNCLINE_PROBE_FAILURES", "0")
    with pytest.raises(SettingsError) as caught:
        load_settings({})
    assert caught.value.cause.startswith("SYNCLINE_PROBE_FAILURES: ")


def test_an_unknown_flag_is_refused() -> None:
    given: dict[str, Any] = {"htttp_bind": "127.0.0.1:1"}
    with pytest.raises(SettingsError, match="unknown setting htttp-bind"):
        load_settings(given)


def test_unknown_variables_are_reported_and_service_links_are_not() -> None:
    environ = {
        "SYNCLINE_HTTP_BIMD": "x",
        "SYNCLINE_HTTP_BIND": "x",
        "SYNCLINE_PORT_443_TCP_ADDR": "x",
        "SYNCLINE_DEBUG": "1",
        "SYNCLINE_HUB_SERVICE_HOST": "x",
        "PATH": "x",
    }
    assert unknown_variables(environ) == ["SYNCLINE_HTTP_BIMD"]


@pytest.mark.parametrize(
    ("text", "loopback"),
    [("127.0.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), (":1", False), ("hub:1", False)],
)
def test_loopback_binds_are_recognised(text: str, loopback: bool) -> None:
    assert load_settings({"http_bind": text}).http_bind.loopback is loopback


def test_webhooks_on_all_addresses_need_to_say_where_they_are_reached() -> None:
    """B38: told at the start, and not by webhooks that never come up."""
    with pytest.raises(SettingsError, match="needs webhook-url"):
        load_settings({"webhook_bind": ":9443"})
    assert load_settings({"webhook_bind": ":9443", "webhook_url": "https://webhooks.example"}).webhook_bind.port == 9443
    assert load_settings({"webhook_bind": ":9443", "webhooks": "off"}).webhooks == "off"


def test_a_service_for_the_webhooks_is_named_in_full() -> None:
    given = {"webhook_bind": ":9443", "webhook_url": "service://syncline-webhook.syncline-system.svc:443"}
    assert load_settings(given).webhook_url == given["webhook_url"]
    for wrong in ("service://syncline-webhook", "service://a.b.svc", "service://a.b.c.svc:443", "http://a.b.svc:443"):
        with pytest.raises(SettingsError, match="--webhook-url"):
            load_settings({"webhook_url": wrong})


def test_settings_cannot_be_changed_after_start() -> None:
    settings = load_settings({})
    with pytest.raises(ValueError, match="frozen"):
        settings.log_level = "debug"
