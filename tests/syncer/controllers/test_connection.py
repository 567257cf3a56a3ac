"""What a target is asked about itself, where its answers are unusual."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import pytest

from syncer.controllers import connection
from syncer.controllers.rights import NEEDED_VERBS
from syncer.errors import TransientError
from syncer.kube.client import ClusterClient
from syncer.kube.errors import Forbidden, NotFound, Unauthorized, Unreachable
from syncer.kube.objects import ResourceInfo
from syncer.placement.policy import ResourcePolicy

ALL = frozenset(NEEDED_VERBS)
CONFIGMAPS = ResourceInfo("", "v1", "configmaps", "ConfigMap", True, ALL)
JOBS = ResourceInfo("batch", "v1", "jobs", "Job", True, ALL)
WIDGETS = ResourceInfo("example.com", "v1", "widgets", "Widget", True, ALL)


@dataclass
class Answer:
    body: bytes


@dataclass
class Target:
    """Answers from a function of path and request."""

    reply: Callable[[str, Mapping[str, Any], Mapping[str, str]], Any]
    asked: list[str] = field(default_factory=list)

    async def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes | None = None, **_: Any
    ) -> Answer:
        self.asked.append(path.rpartition("/")[2])
        found = self.reply(path, orjson.loads(body or b"{}"), params or {})
        if isinstance(found, Exception):
            raise found
        return Answer(orjson.dumps(found))


def client(target: Target) -> ClusterClient:
    return cast(ClusterClient, target)


async def test_where_rules_cannot_be_listed_each_missing_right_is_asked_by_itself() -> None:
    """A cluster with a webhook or node authorizer answers `incomplete`: a missing rule is no "no" there."""

    def reply(path: str, body: Mapping[str, Any], _: Mapping[str, str]) -> Any:
        if path.endswith("selfsubjectrulesreviews"):
            return {"status": {"incomplete": True, "resourceRules": []}}
        wanted = body["spec"]["resourceAttributes"]
        return {"status": {"allowed": not (wanted["resource"] == "jobs" and wanted["verb"] == "create")}}

    target = Target(reply)
    missing = await connection.ask_missing_rights(client(target), [CONFIGMAPS, JOBS])
    assert [str(right) for right in missing] == ["jobs.batch (create)"]


async def test_the_single_questions_are_bounded() -> None:
    def reply(path: str, body: Mapping[str, Any], _: Mapping[str, str]) -> Any:
        rules = path.endswith("selfsubjectrulesreviews")
        return {"status": {"incomplete": True}} if rules else {"status": {"allowed": True}}

    target = Target(reply)
    kinds = [ResourceInfo("g", "v1", f"kind{n}", "Kind", True, ALL) for n in range(100)]
    missing = await connection.ask_missing_rights(client(target), kinds)
    assert target.asked.count("selfsubjectaccessreviews") == connection.MAX_SINGLE_REVIEWS
    assert len(missing) > 80


async def test_a_complete_answer_needs_one_request() -> None:
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    target = Target(lambda *_: {"status": {"incomplete": False, "resourceRules": [everything]}})
    assert await connection.ask_missing_rights(client(target), [CONFIGMAPS, JOBS]) == ()
    assert target.asked == ["selfsubjectrulesreviews"]


async def test_a_review_without_a_status_allows_nothing() -> None:
    assert await connection.ask_missing_rights(client(Target(lambda *_: {"status": "odd"})), [CONFIGMAPS])


async def test_capacity_is_read_page_by_page_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(_: str, __: Mapping[str, Any], params: Mapping[str, str]) -> Any:
        page = int(params.get("continue", "0"))
        amounts = {"cpu": "2"}
        item = {"status": {"capacity": amounts, "allocatable": amounts}}
        return {"metadata": {"continue": str(page + 1) if page < 9 else ""}, "items": [item] * 3}

    assert await connection.ask_capacity(client(Target(reply))) == ({"cpu": "60"}, {"cpu": "60"})
    monkeypatch.setattr(connection, "MAX_NODES", 6)
    assert await connection.ask_capacity(client(Target(reply))) == ({"cpu": "12"}, {"cpu": "12"})


def test_only_kinds_that_the_upstream_serves_can_be_missing() -> None:
    policy = ResourcePolicy(allow=("widgets.example.com", "gadgets.example.com"))
    kinds = connection.compare_kinds([CONFIGMAPS, JOBS, WIDGETS], [CONFIGMAPS, JOBS], policy)
    assert kinds.unserved == ("widgets.example.com",)
    assert [(r.resource, r.state) for r in kinds.listed] == [
        ("widgets", "Incompatible"),
        ("configmaps", "Accepted"),
        ("jobs", "Accepted"),
    ]


def test_the_list_for_the_status_is_bounded_and_keeps_what_is_wrong() -> None:
    many = [ResourceInfo("example.com", "v1", f"kind{n:03}", "Kind", True, ALL) for n in range(200)]
    kinds = connection.compare_kinds([*many, WIDGETS], many, ResourcePolicy(preset="All"))
    assert len(kinds.listed) == connection.MAX_LISTED
    assert kinds.listed[0].resource == "widgets"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unauthorized(401, "Unauthorized", "x"), "Unauthorized"),
        (Forbidden(403, "Forbidden", "x"), "Forbidden"),
        (Unreachable(0, "Unreachable", "x"), "Unreachable"),
        (TransientError("x"), "Unreachable"),
    ],
)
def test_a_failed_probe_gets_a_word(error: Any, reason: str) -> None:
    assert connection.reason_of(error) == reason


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"metadata": {"name": "x"}}, "present"),
        ({"metadata": {"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z"}}, "leaving"),
        (NotFound(404, "NotFound", "x"), "leaving"),
        (Forbidden(403, "Forbidden", "x"), "unknown"),
        (Unreachable(0, "Unreachable", "x"), "unknown"),
    ],
)
async def test_unknown_is_never_taken_for_gone(answer: Any, state: str) -> None:
    """F60, P3."""
    assert await connection.crd_state(client(Target(lambda *_: answer))) == state
