"""What the joining side does by itself: its folder, the hub's hash, when it renews."""

from __future__ import annotations

import asyncio
import random
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509

from syncer.agent import credentials as module
from syncer.agent.credentials import (
    AgentCredentials,
    Description,
    Unusable,
    certificate_request,
    check_issued,
    keep_renewed,
    new_key,
    open_folder,
    save,
    seconds_to_renewal,
    write_private,
)
from syncer.agent.http import HubNotReached, route_to
from syncer.agent.joining import JoinFailed, Joining, joined
from syncer.agent.pinning import NotPinned, believe, check_hash
from syncer.hub.agent_certificates import LIFETIME, check_request, issue
from syncer.hub.certificates import authority_hash, issue_server, make_authority

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
AGENTS = make_authority(now=NOW, name="syncline-agent-ca")


def issued(target: str = "east", key: Any = None, *, now: datetime = NOW) -> tuple[Any, bytes]:
    key = key or new_key()
    public = check_request(certificate_request(key, target), target)
    return key, issue(AGENTS, public, target=target, cluster_uid="u1", registration_uid="r1", generation=1, now=now)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of an agent that joined as east."""
    path = tmp_path / "agent"
    open_folder(path)
    save(path, *issued())
    told = Description(hub="https://hub:1", target="east", cluster_uid="u1", token_id="t1")
    write_private(path / "agent.json", msgspec.json.encode(told))
    write_private(path / "hub-ca.crt", make_authority(now=NOW).certificate)
    return path


def asked(folder: Path, **more: Any) -> Joining:
    said: dict[str, Any] = {
        "hub": "https://hub:1", "token": "t1.secret", "ca_hash": "", "target": "east", "folder": folder,
        "cluster_uid": "u1", **more,
    }  # fmt: skip
    return Joining(**said)


def test_nobody_else_may_look_into_the_folder(tmp_path: Path) -> None:
    new = tmp_path / "a" / "b"
    open_folder(new)
    assert stat.S_IMODE(new.stat().st_mode) == 0o700
    open_folder(new)
    write_private(new / "x", b"1")
    write_private(new / "x", b"2")
    assert (new / "x").read_bytes() == b"2"
    assert stat.S_IMODE((new / "x").stat().st_mode) == 0o600
    assert [path.name for path in new.iterdir()] == ["x"]
    new.chmod(0o755)
    with pytest.raises(Unusable, match="others may look"):
        open_folder(new)


def test_what_is_there_already_is_used_only_for_the_same_target_cluster_and_token(folder: Path) -> None:
    """B40: a cluster that was built anew joins anew; another target's credentials are never overwritten."""
    assert joined(asked(folder), now=NOW) is not None
    assert joined(asked(folder, cluster_uid="u2"), now=NOW) is None
    assert joined(asked(folder, token="t2.secret"), now=NOW) is None
    assert joined(asked(folder), now=NOW + LIFETIME + timedelta(seconds=1)) is None
    assert joined(asked(folder / "other"), now=NOW) is None
    with pytest.raises(JoinFailed, match="credentials of target east"):
        joined(asked(folder, target="west"), now=NOW)
    assert "secret" not in repr(asked(folder))


def test_a_damaged_folder_says_so(folder: Path) -> None:
    (folder / "agent.pem").write_bytes(b"x")
    with pytest.raises(Unusable, match="damaged"):
        AgentCredentials(folder)
    (folder / "agent.json").unlink()
    with pytest.raises(Unusable, match="no credentials"):
        AgentCredentials(folder)


def test_only_the_authority_of_that_hash_is_believed() -> None:
    """S60: not another authority, not a server's certificate, not text."""
    ours, other = make_authority(now=NOW), make_authority(now=NOW)
    wanted = authority_hash(ours.certificate)
    assert believe(ours.certificate, wanted, "hub") == ours.certificate
    assert believe(ours.certificate + other.certificate, wanted, "hub") == ours.certificate
    for answer in (other.certificate, issue_server(ours, ["hub"], now=NOW).certificate, b"", b"<html>"):
        with pytest.raises(NotPinned):
            believe(answer, wanted, "hub")
    assert check_hash(wanted.upper().replace("SHA256", "sha256")) == wanted
    for text in ("", "sha256:", "sha1:" + "0" * 40, wanted + "0", wanted[7:]):
        with pytest.raises(NotPinned):
            check_hash(text)


def test_a_certificate_for_somebody_else_is_not_taken() -> None:
    key, mine = issued()
    assert check_issued(mine.decode(), key, "east")
    for answer, name in ((issued()[1], "east"), (mine, "west"), (b"junk", "east")):
        with pytest.raises(Unusable):
            check_issued(answer.decode(), key, name)


@pytest.mark.parametrize("url", ["http://hub", "hub", "https://", "https://user:pw@hub", "ftp://hub", "https://h?q=1"])
def test_a_hub_is_reached_by_https_only(url: str) -> None:
    with pytest.raises(HubNotReached):
        route_to(url)


@pytest.mark.parametrize(
    ("clock", "wait"),
    [(0.0, 0.5), (0.25, 0.25), (0.5, 0.0), (0.9, 0.0), (2.0, 0.0), (-1.0, 0.5)],
)
def test_the_time_to_renew_follows_the_certificate_and_forgives_the_clock(clock: float, wait: float) -> None:
    """S06: a clock that is behind by a month does not make the agent miss the end."""
    certificate = x509.load_pem_x509_certificate(issued()[1])
    life = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds()
    now = certificate.not_valid_before_utc + timedelta(seconds=clock * life)
    assert seconds_to_renewal(certificate, 0.5, now=now) == pytest.approx(wait * life)


class Days:
    """Time that passes by sleeping; ends the loop after some."""

    def __init__(self, days: float) -> None:
        self.now, self.end = NOW, NOW + timedelta(days=days)

    async def sleep(self, seconds: float) -> None:
        assert seconds <= 3600
        self.now += timedelta(seconds=seconds)
        if self.now >= self.end:
            raise asyncio.CancelledError


def renewing(
    monkeypatch: pytest.MonkeyPatch, folder: Path, days: Days, works: Callable[[datetime], bool]
) -> list[datetime]:
    """Run the agent's renewals for some days; when each was tried."""
    tried: list[datetime] = []

    async def fake(credentials: AgentCredentials, *, hub: str, proxy: str | None = None) -> None:
        tried.append(days.now)
        if not works(days.now):
            raise HubNotReached("https://hub:1", "away")
        save(folder, *issued(now=days.now))

    monkeypatch.setattr(module, "renew", fake)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(
            keep_renewed(
                AgentCredentials(folder),
                hubs=lambda: ["https://hub:1"],
                now=lambda: days.now,
                sleep=days.sleep,
                rng=random.Random(7),
            )
        )
    return tried


def test_certificates_are_renewed_between_a_half_and_four_fifths_of_their_life(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """S06: for a year, without a gap, and not all agents at the same moment."""
    tried = renewing(monkeypatch, folder, Days(365), lambda now: True)
    lives = [later - earlier for earlier, later in zip([NOW, *tried], tried, strict=False)]
    assert len(tried) in range(16, 25)
    assert all(LIFETIME * 0.49 < life < LIFETIME * 0.8 for life in lives)
    assert len(set(lives)) > 10


async def test_renewals_ask_each_hub_in_turn(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """F33: the hub that was joined may have moved away; without this its agents would be out after a month."""
    asked: list[str] = []
    days = Days(22)  # a certificate is renewed after 21 at the latest

    async def fake(credentials: AgentCredentials, *, hub: str, proxy: str | None = None) -> None:
        asked.append(hub)
        if hub != "https://new":
            raise HubNotReached(hub, "moved away")
        save(folder, *issued(now=days.now))

    monkeypatch.setattr(module, "renew", fake)
    hubs = ("https://old", "https://new")
    with pytest.raises(asyncio.CancelledError):
        await keep_renewed(AgentCredentials(folder), hubs=lambda: hubs, now=lambda: days.now, sleep=days.sleep)
    assert asked == list(hubs)


def test_an_agent_knows_that_its_certificate_is_over(folder: Path) -> None:
    """F34."""
    credentials = AgentCredentials(folder)
    assert not credentials.ended(now=NOW)
    assert "join again with a new token" in credentials.ended(now=NOW + LIFETIME + timedelta(seconds=1))


def test_a_hub_that_is_down_at_renewal_is_asked_until_it_is_back(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """S06: down for a third of the life; the certificate of before carries the agent over it."""
    back = NOW + LIFETIME * 0.9
    tried = renewing(monkeypatch, folder, Days(28), lambda now: now >= back)
    assert tried[-1] >= back
    assert tried[-1] - back < timedelta(minutes=15)
    assert tried[-1] < NOW + LIFETIME
