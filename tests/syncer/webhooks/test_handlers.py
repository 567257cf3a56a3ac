"""The handlers without a server: what is asked, what is not, and what happens when nobody can be asked."""

from __future__ import annotations

from typing import Any

import kopf
import pytest

from syncer.api.synctarget import SyncTarget
from syncer.errors import TransientError
from syncer.hub.auth import Access, User
from syncer.webhooks.access import Question
from syncer.webhooks.handlers import AdmissionHandlers, Known, user_of
from tests.syncer.api.cases import placement, sync_target

BOB = {"username": "bob", "uid": "7", "groups": ["dev"], "extra": {"scopes": ["a", "b"]}}


class Reviewer:
    """Says yes to everything but these questions, and remembers who asked what."""

    def __init__(self, *denied: str, error: Exception | None = None) -> None:
        self.denied = denied
        self.error = error
        self.asked: list[tuple[User, str]] = []

    async def allowed(self, user: User, access: Access) -> bool:
        question = str(Question("", access))
        self.asked.append((user, question))
        if self.error is not None:
            raise self.error
        return question not in self.denied


def _handlers(reviewer: Reviewer) -> AdmissionHandlers:
    return AdmissionHandlers(reviewer, Known(targets=lambda: {"east": SyncTarget.parse(sync_target("east"))}))


async def _validate(
    reviewer: Reviewer, new: dict[str, Any] | None, old: dict[str, Any] | None = None, operation: str = "CREATE"
) -> list[str]:
    warnings: list[str] = []
    await _handlers(reviewer).validate(userinfo=BOB, warnings=warnings, operation=operation, old=old, new=new)
    return warnings


async def test_the_requesting_user_is_asked_about_with_everything_known_of_it() -> None:
    reviewer = Reviewer()
    assert await _validate(reviewer, placement()) == []
    assert reviewer.asked[0][0] == User("bob", ("dev",), "7", {"scopes": ["a", "b"]})
    assert [text for _, text in reviewer.asked] == [
        "use synctargets.syncline.io/east",
        "get configmaps in namespace shop",
    ]


async def test_every_missing_right_is_told_at_once() -> None:
    reviewer = Reviewer("use synctargets.syncline.io/east", "get configmaps in namespace shop")
    with pytest.raises(kopf.AdmissionError) as caught:
        await _validate(reviewer, placement())
    assert caught.value.code == 403
    assert 'spec.targets: Forbidden: user "bob" may not use synctargets.syncline.io/east' in str(caught.value)
    assert "spec.resources[0]" in str(caught.value)


async def test_a_broken_object_is_refused_before_anybody_is_asked() -> None:
    reviewer = Reviewer()
    with pytest.raises(kopf.AdmissionError) as caught:
        await _validate(reviewer, placement(transforms=[{"remove": ["/metadata/name"]}]))
    assert caught.value.code == 422
    assert reviewer.asked == []


async def test_forbidden_and_invalid_together_are_forbidden() -> None:
    entries = [{"apiVersion": "v1", "kind": "Node", "names": ["*"]}, {"apiVersion": "v1", "kind": "Pod"}]
    with pytest.raises(kopf.AdmissionError) as caught:
        await _validate(Reviewer(), placement(resources=entries))
    assert caught.value.code == 403


async def test_rights_that_cannot_be_asked_for_refuse() -> None:
    """Unknown is not a yes."""
    with pytest.raises(kopf.AdmissionError) as caught:
        await _validate(Reviewer(error=TransientError("timeout")), placement())
    assert caught.value.code == 503
    assert "try again" in str(caught.value)


async def test_discovery_that_cannot_be_asked_refuses() -> None:
    def resolve(api_version: str, kind: str) -> None:
        raise TransientError("discovery failed")

    handlers = AdmissionHandlers(Reviewer(), Known(targets=dict, resolve=resolve))
    with pytest.raises(kopf.AdmissionError) as caught:
        await handlers.validate(userinfo=BOB, warnings=[], operation="CREATE", new=placement())
    assert caught.value.code == 503


async def test_what_asks_for_nothing_new_passes_unasked() -> None:
    """F59: labels, finalizers, objects on their way out, and deletes."""
    bad = placement(targets={})
    leaving = bad | {"metadata": bad["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    labelled = bad | {"metadata": bad["metadata"] | {"labels": {"a": "b"}}}
    reviewer = Reviewer()
    await _validate(reviewer, labelled, bad, "UPDATE")
    await _validate(reviewer, leaving, placement(), "UPDATE")
    await _validate(reviewer, None, bad, "DELETE")
    assert reviewer.asked == []


async def test_an_old_target_that_cannot_be_read_asks_for_its_secret_again() -> None:
    reviewer = Reviewer()
    await _validate(reviewer, sync_target("west"), sync_target("west", colour="blue"), "UPDATE")
    await _validate(reviewer, sync_target("west", unschedulable=True), sync_target("west"), "UPDATE")
    assert [text for _, text in reviewer.asked] == ["get secrets/west in namespace syncline-system"]


async def test_warnings_do_not_refuse() -> None:
    """B02"""
    warnings = await _validate(Reviewer(), placement(targets={"names": ["nowhere"]}))
    assert warnings == ["spec.targets.names[0]: TargetNotFound: nowhere"]


def test_a_user_without_anything_is_nobody() -> None:
    assert user_of({}) == User("")
