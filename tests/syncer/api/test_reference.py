"""The generated reference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syncer.api import reference
from syncer.api.names import Reason


def test_the_file_in_docs_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main(["--check"]) == 0, capsys.readouterr().err


def test_drift_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "FILE", tmp_path / "docs" / "api-reference.md")
    assert reference.main(["--check"]) == 1
    assert "run python -m syncer.api.reference" in capsys.readouterr().err
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0


def test_every_link_has_its_heading() -> None:
    text = reference.render_reference()
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= headings


def test_defaults_and_what_comes_later_are_told() -> None:
    text = reference.render_reference()
    assert "| `qps` | integer ≥ 1, ≤ 100000 | `200` |" in text
    assert re.search(r"\| `fields` \| .* \| `UpstreamWins` \| .*\*later\*: `Manual` \|", text)


def test_every_reason_says_what_to_do() -> None:
    text = reference.render_reference()
    assert all(f"| `{reason}` | " in text for reason in Reason)
