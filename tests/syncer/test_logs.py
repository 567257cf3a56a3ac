"""Logs: one renderer, nothing secret."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from syncer.logs import configure_logs, redact

CANARY = "c4n4ry-0123456789abcdef"
JWT = "eyJhbGciOiJSUzI1NiJ9." + base64.urlsafe_b64encode(CANARY.encode()).decode() + ".c2lnbmF0dXJl"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    output = io.StringIO()
    configure_logs(level="debug", form="json", stream=output)
    yield output
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.basicConfig(force=True, level=logging.WARNING)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_ours_and_library_lines_have_one_form(stream: io.StringIO) -> None:
    structlog.get_logger().info("target connected", target="east")
    logging.getLogger("kopf").warning("watch %s ended", "x")
    ours, theirs = lines(stream)
    assert (ours["event"], ours["level"], ours["target"]) == ("target connected", "info", "east")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("watch x ended", "warning", "kopf")
    assert ours["timestamp"].endswith("Z")
    assert theirs["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {CANARY}",
        f"authorization: basic {CANARY}",
        f"answer was {JWT}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{CANARY} cut off",
        f"token: {CANARY}",
        f'{{"token": "{CANARY}"}}',
        f"client-key-data: {CANARY}",
        str({"user": {"token": CANARY, "password": CANARY}}),
    ],
)
def test_credentials_are_cut_out_of_every_text(text: str, stream: io.StringIO) -> None:
    """S50: event text, values, nested values, tracebacks and library lines, also in base64 form."""
    log = structlog.get_logger()
    log.error("failed", detail=text, nested={"a": [text]})
    log.error(text)
    logging.getLogger("aiohttp").error("failed: %s", text)
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("failed")
        logging.getLogger("asyncio").exception("failed")
    output = stream.getvalue()
    assert len(lines(stream)) == 5
    assert CANARY not in output
    assert base64.urlsafe_b64encode(CANARY.encode()).decode() not in output


@pytest.mark.parametrize(
    "name", ["token", "password", "kubeconfig", "client-key-data", "Authorization", "bearer_token"]
)
def test_values_under_telling_names_are_replaced(name: str, stream: io.StringIO) -> None:
    """S50."""
    structlog.get_logger().info("x", **{name: CANARY, "deep": {name: CANARY.encode()}})
    assert CANARY not in stream.getvalue()


def test_names_that_only_sound_secret_keep_their_values(stream: io.StringIO) -> None:
    structlog.get_logger().info("x", secret_name="east", key="v1/Secret/shop/x", tokens=3)
    assert lines(stream)[0].items() >= {"secret_name": "east", "key": "v1/Secret/shop/x", "tokens": 3}.items()


def test_long_texts_are_cut() -> None:
    assert len(redact("x" * 100_000)) < 4200


def test_levels_below_the_chosen_one_and_chatty_libraries_are_silent() -> None:
    output = io.StringIO()
    configure_logs(level="info", form="json", stream=output)
    structlog.get_logger().debug("hidden")
    logging.getLogger("kopf").info("hidden")
    structlog.get_logger().info("seen")
    assert [line["event"] for line in lines(output)] == ["seen"]


def test_the_console_form_is_for_people() -> None:
    output = io.StringIO()
    configure_logs(level="info", form="console", stream=output)
    structlog.get_logger().info("target connected", target="east")
    assert "target connected" in output.getvalue()
    assert "target=east" in output.getvalue()


def test_what_json_cannot_hold_is_logged_all_the_same(stream: io.StringIO) -> None:
    """Headers and file names come with halves of surrogate pairs where their bytes are no UTF-8."""
    structlog.get_logger().info("x", name="\udcff", number=2**70)
    assert lines(stream)[0].items() >= {"event": "x", "name": "\udcff", "number": 2**70}.items()


def test_a_full_disk_does_not_stop_the_process() -> None:
    """F22."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    configure_logs(level="info", form="json", stream=Full())
    structlog.get_logger().info("x")
    logging.getLogger("x").error("y")
