"""Who asks and may they see it: only upstream says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from syncer.api.keys import GroupResource
from syncer.errors import TransientError
from syncer.hub.auth import (
    CACHE_SECONDS,
    CONCURRENT_REVIEWS,
    WAITING_REVIEWS,
    Access,
    Authenticator,
    Authorizer,
    User,
    review_body,
    user_of_certificate,
    user_of_review,
)
from syncer.kube.errors import Unreachable
from tests.syncer.hub.fakes import Reviews

ALICE = User("alice", ("dev",))
PODS = Access("get", GroupResource("", "pods"), "shop", "web")


def request(headers: dict[str, str]) -> web.Request:
    return make_mocked_request("GET", "/", headers=headers)


async def identify(reviews: Reviews, headers: dict[str, str]) -> User | None:
    return await Authenticator(reviews).identify(request(headers))


async def test_a_token_that_upstream_knows_names_its_user() -> None:
    reviews = Reviews(tokens={"good": ("alice", ["dev"])})
    assert await identify(reviews, {"Authorization": "Bearer good"}) == ALICE
    assert await identify(reviews, {"Authorization": "bearer good"}) == ALICE


@pytest.mark.parametrize(
    "header",
    ["Bearer wrong", "Bearer ", "Basic YTpi", "good", "Bearer " + "x" * 20_000, "Bearer gööd", "Bearer"],
)
async def test_everything_else_names_nobody(header: str) -> None:
    """S44."""
    assert await identify(Reviews(tokens={"good": ("alice", [])}), {"Authorization": header}) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"},
        {"Impersonate-User": "admin"},
        {"x-remote-user": "admin"},
        {"X_Remote_User": "admin"},
        {"Forwarded": "for=127.0.0.1"},
    ],
)
async def test_headers_that_claim_an_identity_are_never_read(headers: dict[str, str]) -> None:
    """S30."""
    assert await identify(Reviews(), headers) is None
    reviews = Reviews(tokens={"good": ("alice", ["dev"])})
    assert await identify(reviews, {**headers, "Authorization": "Bearer good"}) == ALICE


async def test_an_answer_is_kept_for_seconds_and_the_token_itself_never() -> None:
    """S50."""
    now = [0.0]
    reviews = Reviews(tokens={"c4n4ry-token": ("alice", ["dev"])})
    authenticator = Authenticator(reviews, clock=lambda: now[0])
    for _ in range(5):
        assert await authenticator.identify(request({"Authorization": "Bearer c4n4ry-token"})) == ALICE
    assert len(reviews.asked) == 1
    assert "c4n4ry-token" not in repr(vars(authenticator._recent))
    now[0] += CACHE_SECONDS
    reviews.tokens.clear()
    assert await authenticator.identify(request({"Authorization": "Bearer c4n4ry-token"})) is None


async def test_many_callers_at_once_cause_one_question() -> None:
    reviews = Reviews(tokens={"good": ("alice", ["dev"])})
    authenticator = Authenticator(reviews)
    answers = await asyncio.gather(
        *(authenticator.identify(request({"Authorization": "Bearer good"})) for _ in range(50))
    )
    assert answers == [ALICE] * 50
    assert len(reviews.asked) == 1


class Silent(Reviews):
    """An API server that answers when it is told to."""

    def __init__(self, **known: Any) -> None:
        super().__init__(**known)
        self.answers = asyncio.Event()

    async def request(self, *args: Any, **options: Any) -> Any:
        self.asked.append("begun")
        await self.answers.wait()
        return await super().request(*args, **options)


def ask(authenticator: Authenticator, token: str) -> asyncio.Task[User | None]:
    return asyncio.create_task(authenticator.identify(request({"Authorization": f"Bearer {token}"})))


async def leave(*callers: asyncio.Task[User | None]) -> None:
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await turns()


async def turns() -> None:
    """What was begun runs until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_callers_who_left_leave_nothing_behind() -> None:
    """Strangers who hang up would fill the queue, and all who are somebody would stand behind them."""
    reviews = Silent(tokens={"good": ("alice", ["dev"])})
    authenticator, before = Authenticator(reviews), len(asyncio.all_tasks())
    for round_ in range(10):
        callers = [ask(authenticator, f"{round_}-{number}") for number in range(100)]
        await turns()
        await leave(*callers)
    assert len(asyncio.all_tasks()) == before
    begun = len(reviews.asked)
    assert begun == 10 * CONCURRENT_REVIEWS
    reviews.answers.set()
    await turns()
    assert len(reviews.asked) == begun
    assert await ask(authenticator, "good") == ALICE


async def test_no_more_callers_wait_than_there_is_room_for() -> None:
    reviews = Silent(tokens={"good": ("alice", ["dev"])})
    authenticator = Authenticator(reviews)
    callers = [ask(authenticator, str(number)) for number in range(WAITING_REVIEWS)]
    await turns()
    with pytest.raises(TransientError, match="wait"):
        await ask(authenticator, "good")
    joined = ask(authenticator, "1")  # the same question once more costs nothing
    reviews.answers.set()
    assert await asyncio.gather(*callers, joined) == [None] * (WAITING_REVIEWS + 1)
    assert await ask(authenticator, "good") == ALICE


async def test_one_known_user_may_be_asked_about_many_objects() -> None:
    """The list of problems asks for each of them."""
    authorizer = Authorizer(Reviews())
    many = [PODS._replace(name=str(number)) for number in range(2 * WAITING_REVIEWS)]
    assert not any(await asyncio.gather(*(authorizer.allows(ALICE, one) for one in many)))


async def test_a_caller_who_leaves_takes_the_answer_from_nobody() -> None:
    reviews = Silent(tokens={"good": ("alice", ["dev"])})
    authenticator = Authenticator(reviews)
    first, second = ask(authenticator, "good"), ask(authenticator, "good")
    await turns()
    await leave(first)
    third = ask(authenticator, "good")
    reviews.answers.set()
    assert [await second, await third] == [ALICE, ALICE]
    assert reviews.asked.count("begun") == 1


async def test_an_api_server_that_is_down_is_an_error_and_not_an_answer() -> None:
    reviews = Reviews(tokens={"good": ("alice", ["dev"])}, down=True)
    authenticator, authorizer = Authenticator(reviews), Authorizer(reviews)
    with pytest.raises(Unreachable):
        await authenticator.identify(request({"Authorization": "Bearer good"}))
    with pytest.raises(Unreachable):
        await authorizer.allows(ALICE, PODS)
    reviews.down = False
    assert await authenticator.identify(request({"Authorization": "Bearer good"})) == ALICE
    assert not await authorizer.allows(ALICE, PODS)


def test_a_certificate_names_its_user_and_groups() -> None:
    subject = ((("organizationName", "dev"),), (("organizationName", "ops"),), (("commonName", "alice"),))
    assert user_of_certificate({"subject": subject}) == User("alice", ("dev", "ops", "system:authenticated"))
    assert user_of_certificate({"subject": ((("organizationName", "dev"),),)}) is None
    assert user_of_certificate({}) is None


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"authenticated": False, "user": {"username": "alice"}},
        {"authenticated": "true", "user": {"username": "a"}},
        {"authenticated": True},
        {"authenticated": True, "user": {"username": ""}},
    ],
)
def test_a_review_without_a_clear_yes_names_nobody(status: dict[str, object]) -> None:
    assert user_of_review(status) is None


async def test_a_right_is_asked_for_exactly_what_is_shown() -> None:
    reviews = Reviews(rules={("alice", "get", "pods", "shop")})
    authorizer = Authorizer(reviews)
    assert await authorizer.allows(ALICE, PODS)
    assert not await authorizer.allows(ALICE, PODS._replace(namespace="other"))
    assert not await authorizer.allows(ALICE, PODS._replace(verb="delete"))
    assert not await authorizer.allows(User("bob"), PODS)


def test_the_question_carries_groups_uid_and_extra() -> None:
    user = User("alice", ("dev",), "u1", {"scopes": ["a"]})
    text = review_body(user, PODS).decode()
    for part in ('"groups":["dev"]', '"uid":"u1"', '"extra":{"scopes":["a"]}', '"name":"web"'):
        assert part in text
