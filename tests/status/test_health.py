"""Health, rollout and end of every kind, case by case from `testdata/`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from status.kinds import rules_for
from status.kinds.generic import GenericRules
from tests.status.builders import reported

CASES = sorted((Path(__file__).parent / "testdata").glob("*.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_health_follows_the_rule_of_the_kind(case: Path) -> None:
    expectation, manifest = yaml.safe_load_all(case.read_text())
    group = manifest["apiVersion"].rpartition("/")[0]
    report = reported("east", manifest, (group, manifest["kind"]), generation=7)
    assert report.health == expectation["health"]
    assert report.reason == expectation.get("reason", report.reason)
    assert report.rolled_out == expectation.get("rolledOut", report.rolled_out)
    assert report.terminal == expectation.get("terminal", False)


def test_every_kind_with_rules_has_cases() -> None:
    kinds = {
        (doc["apiVersion"].rpartition("/")[0], doc["kind"])
        for path in CASES
        for doc in yaml.safe_load_all(path.read_text())
        if "kind" in doc
    }
    own = {kind for kind in kinds if not isinstance(rules_for(*kind), GenericRules)}
    assert len(own) == 13
    assert kinds - own == {("example.com", "Widget")}
