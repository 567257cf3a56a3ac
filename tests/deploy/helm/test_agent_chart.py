"""The agent's chart: a token is enough, and its role is what its policy takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.render import CHARTS
from deploy.helm.tool import run
from deploy.local.errors import GroundError
from syncer.agent.policy import Policy, parse_policy
from syncer.agent.role import agent_role, default_policy
from syncer.api.synctarget import AcceptedResources
from tests.deploy.helm.conftest import Objects, Render

GIVEN = {
    "hub.url": "https://hub.example.com",
    "hub.caHash": f"sha256:{'a' * 64}",
    "target": "east",
    "token": f"{'0' * 12}.{'A' * 43}",
}


def rendered_policy(objects: Objects) -> Policy:
    text = objects["ConfigMap", "syncline-agent-policy"]["data"]["policy.yaml"]
    return parse_policy(text.encode(), where="chart")


def rights(rules: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    """One tuple for each single right, so that order and grouping do not matter."""
    return {
        (verb, *place)
        for rule in rules
        for verb in rule["verbs"]
        for place in (
            [("", url) for url in rule["nonResourceURLs"]]
            if "nonResourceURLs" in rule
            else [
                (group, resource, name)
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for name in rule.get("resourceNames", [""])
            ]
        )
    }


def test_helm_lint_finds_nothing(helm: Path) -> None:
    sets = [word for path, value in GIVEN.items() for word in ("--set", f"{path}={value}")]
    assert "0 chart(s) failed" in run(helm, ["lint", "--strict", str(CHARTS / "syncline-agent"), *sets])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hub.url": ""}, "needed: hub.url. Upstream, `syncline token create NAME` prints them"),
        ({"token": ""}, "needed: token (or tokenSecret.name)"),
        ({"token": "abc"}, "at '/token'"),
        ({"tokenSecret.name": "x"}, "give one of them"),
        ({"hub.url": "http://hub"}, "at '/hub/url'"),
        ({"hub.caHash": "sha256:12"}, "at '/hub/caHash'"),
        ({"target": "East"}, "at '/target'"),
        ({"target": "a" * 41}, "at '/target'"),
        ({"hub.cahash": "x"}, "additional properties 'cahash' not allowed"),
        (
            {"accept.allow": "{*.example.com}", "accept.deny": "{widgets.example.com}"},
            "accept.deny: widgets.example.com is one of accept.allow *.example.com",
        ),
    ],
)
def test_wrong_and_missing_values_are_refused_with_the_place(render: Render, values: dict[str, str], said: str) -> None:
    with pytest.raises(GroundError) as caught:
        render("syncline-agent", {**GIVEN, **values})
    assert said in str(caught.value)
    assert GIVEN["token"] not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "resources", "more"),
    [
        ({}, AcceptedResources(), {}),
        (
            {
                "accept.allow": "{widgets.example.com,*.example.org,nodes}",
                "accept.deny": "{secrets,jobs.batch,namespaces}",
            },
            AcceptedResources(allow=("widgets.example.com", "*.example.org", "nodes"), deny=("secrets", "jobs.batch")),
            {},
        ),
        (
            {"accept.allow": "{*.example.org}", "accept.deny": "{*.apps,*,*.example.org}"},
            AcceptedResources(allow=("*.example.org",), deny=("*.apps", "*", "*.example.org")),
            {},
        ),
        (
            {"people.groups": "{ops,dev}", "people.channels": "false"},
            AcceptedResources(),
            {"groups": ("ops", "dev"), "channels": False},
        ),
    ],
)
def test_policy_and_role_are_those_that_the_agent_makes_itself(
    render: Render, values: dict[str, str], resources: AcceptedResources, more: dict[str, Any]
) -> None:
    """S73: the same rights as `agent_role` gives, one by one."""
    objects = render("syncline-agent", {**GIVEN, **values})
    policy, expected = rendered_policy(objects), default_policy(resources, **more)
    wanted = agent_role(expected, name="x")["rules"]
    role = objects["ClusterRole", "syncline-agent-syncline-system"]
    assert rights(role["rules"]) == rights(wanted)
    assert rights(agent_role(policy, name="x")["rules"]) == rights(wanted)
    assert policy.people == expected.people
    assert policy.paths == expected.paths


def test_an_own_policy_makes_the_role(render: Render, helm: Path, tmp_path: Path) -> None:
    own = {
        "apiVersion": "syncline.io/v1alpha1",
        "kind": "AgentPolicy",
        "sync": [{"resources": ["pods", "pods/log", "widgets.example.com"], "verbs": ["get", "list"]}],
        "people": {
            "users": ["bob", "alice"],
            "groups": ["ops"],
            "extra": [],
            "rules": [{"resources": ["*.*"], "verbs": ["*"]}],
        },
    }
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"policy": own}))
    objects = render("syncline-agent", GIVEN, values)
    policy = rendered_policy(objects)
    assert policy.people.users == ("bob", "alice")
    role = objects["ClusterRole", "syncline-agent-syncline-system"]["rules"]
    assert rights(role) == rights(agent_role(policy, name="x")["rules"])
    assert ("impersonate", "", "users", "alice") in rights(role)
    nobody = render("syncline-agent", {**GIVEN, "people.enabled": "false"})
    rules = nobody["ClusterRole", "syncline-agent-syncline-system"]["rules"]
    assert not any(verb == "impersonate" for verb, *_ in rights(rules))


def test_the_only_secret_that_its_role_names_is_its_own(render: Render) -> None:
    objects = render("syncline-agent", GIVEN)
    (rule,) = objects["Role", "syncline-agent"]["rules"]
    assert rule["resourceNames"] == ["syncline-agent-credentials"]
    assert set(rule["verbs"]) == {"get", "patch"}
    assert "data" not in objects["Secret", "syncline-agent-credentials"]  # an upgrade leaves what the agent wrote
    assert GIVEN["token"] not in str(objects["Deployment", "syncline-agent"])


def test_without_a_token_it_goes_on_with_its_credentials(helm: Path) -> None:
    """An upgrade long after the token was used up."""
    sets = [word for path, value in GIVEN.items() if path != "token" for word in ("--set", f"{path}={value}")]
    text = run(helm, ["template", "syncline-agent", str(CHARTS / "syncline-agent"), "--is-upgrade", *sets])
    assert "--token-file" not in text
    assert "--credentials-secret=" in text


def test_a_list_of_users_names_them_in_the_role(render: Render) -> None:
    """S73: whoever has the agent's token can be none but these."""
    objects = render("syncline-agent", {**GIVEN, "people.users": "{bob,alice}"})
    assert rendered_policy(objects).people.users == ("bob", "alice")
    rules = objects["ClusterRole", "syncline-agent-syncline-system"]["rules"]
    (users,) = [rule for rule in rules if rule.get("resources") == ["users"]]
    assert (users["resourceNames"], users["verbs"]) == (["alice", "bob"], ["impersonate"])


def test_the_network_policy_lets_the_agent_dial_its_hubs_and_its_proxy(render: Render) -> None:
    """S72: whatever port they have."""
    values = {"hub.url": r"https://10.0.0.9:30443\,https://hub.example", "proxy.url": "http://proxy.example:3128"}
    spec = render("syncline-agent", {**GIVEN, **values})["NetworkPolicy", "syncline-agent"]["spec"]
    assert {entry["port"] for rule in spec["egress"] for entry in rule["ports"]} == {53, 443, 3128, 6443, 8443, 30443}
