"""What the agent allows: only what a rule names, and nobody of `system:`."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncer.agent.policy import (
    BadIdentity,
    Identity,
    People,
    Policy,
    Rule,
    load_policy,
    parse_policy,
    policy_text,
    read_identity,
)
from syncer.agent.role import COMMENTS, PROTECTED, agent_role, default_policy
from syncer.api.synctarget import AcceptedResources
from syncer.errors import TerminalError
from syncer.kube.apirequest import attributes, parse_path

ALICE = Identity("alice", ("system:authenticated",))
DEFAULT = default_policy(groups=("dev",))
DEFAULT_WITHOUT_GROUPS = default_policy()


def refusal(request: str, identity: Identity | None = None, policy: Policy = DEFAULT) -> str:
    method, _, target = request.partition(" ")
    return policy.refusal(attributes(method, parse_path(target)), identity)


SHOP = "/api/v1/namespaces/shop"


@pytest.mark.parametrize(
    ("request_line", "sync", "people"),
    [
        (f"GET {SHOP}/configmaps", True, True),
        (f"GET {SHOP}/secrets/a", True, True),
        ("GET /apis/apps/v1/deployments?watch=true", True, True),
        (f"PATCH {SHOP}/configmaps/a", True, True),
        (f"PUT {SHOP}/configmaps/a", False, True),
        (f"DELETE {SHOP}/configmaps", False, True),
        ("PATCH /api/v1/namespaces/kube-system/configmaps/a", False, False),
        ("GET /api/v1/namespaces/kube-system/configmaps/a", True, True),
        ("DELETE /api/v1/namespaces/kube-system", False, False),
        ("DELETE /api/v1/namespaces/shop", True, True),
        ("POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings", False, True),
        (f"GET {SHOP}/pods/web/log?follow=true", False, True),
        (f"GET {SHOP}/pods/web/exec?command=sh", False, True),
        (f"POST {SHOP}/pods/web/portforward", False, True),
        ("POST /api/v1/namespaces/kube-system/pods/web/exec", False, False),
        (f"GET {SHOP}/pods/web/proxy/", False, False),
        (f"PATCH {SHOP}/pods/web/ephemeralcontainers", False, False),
        (f"POST {SHOP}/pods/web/eviction", False, False),
        (f"POST {SHOP}/serviceaccounts/default/token", False, False),
        ("GET /api/v1/nodes/n/proxy/metrics", False, False),
        (f"GET {SHOP}/services/a/proxy/x", False, False),
        ("PATCH /apis/apps/v1/namespaces/shop/deployments/web/scale", False, True),
        ("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", True, True),
        ("GET /version", True, True),
        ("GET /openapi/v3/apis/apps/v1?hash=1", True, True),
        ("GET /apis/apps/v1", True, True),
        ("POST /version", False, False),
        ("GET /metrics", False, False),
        ("GET /logs/kube-apiserver.log", False, False),
        ("GET /debug/pprof/heap", False, False),
    ],
)
def test_the_default_policy(request_line: str, sync: bool, people: bool) -> None:
    """S10: Syncline gets what syncing takes, people what their RBAC may decide about, nobody anything else."""
    assert (refusal(request_line) == "") is sync
    assert (refusal(request_line, ALICE) == "") is people


def test_an_empty_policy_allows_nothing() -> None:
    empty = parse_policy(b"")
    assert refusal(f"GET {SHOP}/configmaps", None, empty)
    assert refusal(f"GET {SHOP}/configmaps", ALICE, empty)
    assert refusal("GET /version", None, empty)


def test_channels_into_pods_can_be_left_out() -> None:
    policy = default_policy(channels=False)
    assert refusal(f"GET {SHOP}/pods/web/exec", ALICE, policy)
    assert not refusal(f"GET {SHOP}/pods/web/log", ALICE, policy)
    everything = Policy(people=People(rules=(Rule(resources=("*.*",), verbs=("*",)),)))
    assert refusal(f"POST {SHOP}/pods/web/exec", ALICE, everything)


def test_a_rule_of_some_namespaces_says_nothing_about_all() -> None:
    policy = Policy(sync=(Rule(resources=("pods",), verbs=("*",), namespaces=("team-*",)),))
    assert not refusal("GET /api/v1/namespaces/team-a/pods", None, policy)
    assert refusal("GET /api/v1/namespaces/shop/pods", None, policy)
    assert refusal("GET /api/v1/pods", None, policy)


@pytest.mark.parametrize(
    ("identity", "allowed"),
    [
        (Identity("alice"), True),
        (Identity("alice", ("dev", "system:authenticated")), True),
        (Identity("alice", ("ops",)), False),
        (Identity("alice", ("system:masters",)), False),
        (Identity("alice", ("system:serviceaccounts",)), False),
        (Identity("system:admin"), False),
        (Identity("system:node:a"), False),
        (Identity("system:serviceaccount:shop:default"), False),
        (Identity("alice", (), ("authentication.kubernetes.io/credential-id",)), True),
        (Identity("alice", (), ("scopes",)), False),
    ],
)
def test_whom_the_hub_may_claim(identity: Identity, allowed: bool) -> None:
    """S37, S79."""
    assert (refusal(f"GET {SHOP}/pods", identity) == "") is allowed
    assert (refusal("GET /version", identity) == "") is allowed


def test_identities_are_read_from_the_four_headers() -> None:
    headers = [
        (b"impersonate-user", b"alice"),
        (b"impersonate-group", b"dev"),
        (b"impersonate-group", b"ops"),
        (b"impersonate-uid", b"1"),
        (b"impersonate-extra-a.b%2fc", b"d"),
        (b"accept", b"x"),
    ]
    assert read_identity(headers) == Identity("alice", ("dev", "ops"), ("a.b/c",))
    assert read_identity(headers[-1:]) is None


@pytest.mark.parametrize(
    "headers",
    [
        [(b"impersonate-user", b"")],
        [(b"impersonate-user", b" system:admin")],
        [(b"impersonate-user", b"\xff")],
        [(b"impersonate-uid", b"1")],
        [(b"impersonate-extra-a", b"1")],
        [(b"impersonate-extra-", b"1"), (b"impersonate-user", b"a")],
        [(b"impersonate-extra-a%2", b"1"), (b"impersonate-user", b"a")],
        [(b"impersonate-user", b"a"), (b"impersonate-user", b"a")],
    ],
)
def test_a_vague_identity_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    """S37."""
    with pytest.raises(BadIdentity):
        read_identity(headers)


def test_the_policy_that_is_written_is_the_policy_that_is_read() -> None:
    text = policy_text(DEFAULT, COMMENTS)
    assert parse_policy(text.encode()) == DEFAULT
    assert text.startswith("# What may be asked")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"{", "YAML"),
        (b"[]", "map"),
        (b"sync: [{resources: [pods], verbs: [read]}]", "/sync/0/verbs"),
        (b"sync: [{resources: [], verbs: [get]}]", "/sync/0/resources"),
        (b"sync: [{resource: [pods], verbs: [get]}]", "/sync/0"),
        (b"people: {groups: ['system:masters']}", "/people/groups"),
        (b"people: {groups: ['dev-*']}", "/people/groups"),
        (b"people: {users: ['system:*']}", "/people/users"),
        (b"kind: Policy", "/kind"),
        (b"apiVersion: v2", "/apiVersion"),
        (b"a: b\n" * 300_000, "larger"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_place(text: bytes, names: str) -> None:
    """B38."""
    with pytest.raises(TerminalError, match=names):
        parse_policy(text, where="policy.yaml")


def test_a_policy_that_cannot_be_read_is_no_empty_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    """B38."""
    with pytest.raises(TerminalError, match="cannot be read"):
        load_policy(tmp_path_factory.mktemp("none") / "policy.yaml")


def test_the_role_is_what_the_policy_takes() -> None:
    """S73: no wildcard, and impersonation of groups by name."""
    rules = agent_role(DEFAULT, name="syncline-agent")["rules"]
    assert not any("*" in rule.get("verbs", ()) + rule.get("resources", []) for rule in rules)
    impersonate = [rule for rule in rules if rule["verbs"] == ["impersonate"]]
    assert {"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]} in impersonate
    groups = next(rule for rule in impersonate if rule["resources"] == ["groups"])
    assert groups["resourceNames"] == ["dev", "system:authenticated"]
    assert not any("pods/exec" in rule.get("resources", ()) for rule in rules)
    without = agent_role(Policy(sync=DEFAULT.sync), name="x")["rules"]
    assert not any("impersonate" in rule["verbs"] for rule in without)


def test_named_users_are_named_in_the_role() -> None:
    policy = Policy(people=People(users=("alice", "bob"), rules=(Rule(resources=("*.*",), verbs=("get",)),)))
    users = agent_role(policy, name="x")["rules"][0]
    assert users["resourceNames"] == ["alice", "bob"]


def test_other_kinds_of_a_target_are_in_its_policy() -> None:
    policy = default_policy(AcceptedResources(allow=("widgets.example.com",), deny=("secrets",)))
    assert not refusal("PATCH /apis/example.com/v1/namespaces/shop/widgets/a", None, policy)
    assert refusal(f"PATCH {SHOP}/secrets/a", None, policy)
    assert PROTECTED == ("kube-*", "syncline-system")


def test_the_documented_default_is_the_default() -> None:
    page = Path(__file__).parents[3] / "docs" / "agent-policy.md"
    assert policy_text(DEFAULT_WITHOUT_GROUPS, COMMENTS) in page.read_text()
