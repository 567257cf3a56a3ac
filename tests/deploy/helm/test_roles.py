"""S73: every role that deploy/ ships, in files and in what the charts render."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.render import MANIFESTS, REPOSITORY

GOLDEN = Path(__file__).parent / "golden"
FILES = [
    *sorted((REPOSITORY / "deploy" / "rbac").glob("*.yaml")),
    *sorted(MANIFESTS.glob("*.yaml")),
    *sorted(path for path in GOLDEN.glob("*.yaml") if ".values" not in path.suffixes),
]
POWERS = {"impersonate", "bind", "escalate"}


def rules(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(name of the role, rule) of every role in a file."""
    roles = [one for one in yaml.safe_load_all(path.read_text()) if one["kind"] in ("ClusterRole", "Role")]
    return [(one["metadata"]["name"], rule) for one in roles for rule in one.get("rules") or []]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_role_has_a_wildcard(path: Path) -> None:
    """S73."""
    for name, rule in rules(path):
        words = [word for key in ("apiGroups", "resources", "verbs", "resourceNames") for word in rule.get(key, [])]
        assert "*" not in words, name
        assert not any(word.startswith("*/") or word.endswith("/*") for word in words), name
        assert "*" not in rule.get("nonResourceURLs", []), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_powers_over_others_are_named_and_those_of_the_agent_only(path: Path) -> None:
    """S73: users cannot be named beforehand; the agent's own policy stands before them and takes no name of system:."""
    for name, rule in rules(path):
        if not POWERS & set(rule["verbs"]):
            continue
        assert name.startswith("syncline-agent-"), name
        assert rule["verbs"] == ["impersonate"]
        if rule["resources"] == ["groups"]:
            assert "system:authenticated" in rule["resourceNames"]
            assert not any(group == "system:masters" for group in rule["resourceNames"])
        else:
            assert all(
                resource in ("users", "uids") or resource.startswith("userextras/") for resource in rule["resources"]
            )


def test_there_are_roles_to_look_at() -> None:
    """The operator's four, those of people, the agent's, the one that cleans up."""
    names = {name for path in FILES for name, _ in rules(path)}
    assert {"syncline-operator-base", "syncline-admin", "syncline-agent-syncline-system", "syncline-cleanup"} <= names
