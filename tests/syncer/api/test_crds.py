"""The CRD generator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncer.api import crds


def test_the_files_in_deploy_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert crds.main(["--check"]) == 0, capsys.readouterr().err


def test_drift_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(crds, "DIRECTORY", tmp_path / "crds")
    assert crds.main([]) == 0
    assert crds.main(["--check"]) == 0
    (tmp_path / "crds" / "placements.syncline.io.yaml").write_text("other")
    assert crds.main(["--check"]) == 1
    assert "placements.syncline.io.yaml; run python -m syncer.api.crds" in capsys.readouterr().err


def test_each_kind_has_status_short_name_and_category() -> None:
    for text in crds.render_crds().values():
        spec = yaml.safe_load(text)["spec"]
        assert spec["names"]["categories"] == ["syncline"]
        assert spec["names"]["shortNames"]
        assert spec["versions"][0]["subresources"] == {"status": {}}
        assert spec["versions"][0]["additionalPrinterColumns"]


def test_every_list_under_spec_is_bounded() -> None:
    """The API server refuses a CRD whose rules may become too expensive."""
    for kind in crds.KINDS:
        for path, schema in _nodes(crds.object_schema(kind)["properties"]["spec"], "spec"):
            if schema.get("type") == "array":
                assert schema.get("maxItems"), path


def _nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from _nodes(schema[key], f"{path}.{key}")
