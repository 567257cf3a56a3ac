"""Churn: ``python -m tests.nightly.churn [--minutes 60] [--seed 1]``, or `make nightly`.

A hub process calls an agent process through links that are reset, cut, silenced, slowed and torn at one end, all by
chance of one seed. Every answer is checked byte by byte. After each round everything heals and comes to rest, and both
processes are measured; in the end memory, tasks and descriptors must be what they were after the first rounds (P18).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trustme

from tests.nightly.calls import CALLS
from tests.nightly.ends import LINKS
from tests.nightly.flat import Sample, faults
from tests.support.commanded import Commanded
from tests.support.fault_proxy import DOWN, UP, FaultProxy, fault_proxy

ROUNDS: Final = 30
LONGEST_ROUND_SECONDS: Final = 60.0
PAUSES: Final = (0.2, 4.0)  # seconds between two faults


def certificates(folder: Path) -> None:
    """An authority, and certificates of a hub and of agents."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "hub.pem"))
    authority.issue_cert("agent").private_key_and_cert_chain_pem.write_to_path(str(folder / "agent.pem"))


async def trouble(proxy: FaultProxy, chance: random.Random, seconds: float) -> None:
    """Faults for so long; healed at the end."""
    end = time.monotonic() + seconds
    directions = ((UP,), (DOWN,), (UP, DOWN))
    while (left := end - time.monotonic()) > 0:
        await asyncio.sleep(min(left, chance.uniform(*PAUSES)))
        lasting = min(max(0.0, end - time.monotonic()), chance.uniform(0.5, 20))
        match chance.choice(("reset", "reset", "vanish", "cut", "silence", "weather")):
            case "reset":
                proxy.reset()
            case "vanish":
                proxy.vanish(chance.choice((UP, DOWN)))
            case "cut":
                proxy.change(chance.choice((UP, DOWN)), cut_after=chance.randrange(200_000))
            case "silence":
                proxy.change(*chance.choice(directions), silent=True)
                await asyncio.sleep(lasting)
                proxy.heal()
            case "weather":
                proxy.change(
                    delay_seconds=chance.uniform(0, 0.15),
                    loss=chance.choice((0.0, 0.01)),
                    repair_seconds=0.3,
                    bytes_per_second=chance.choice((0, 100_000, 5_000_000)),
                )
                await asyncio.sleep(lasting)
                proxy.heal()
    proxy.heal()


async def churn(seconds: float, seed: int, say: Callable[[str], None], *, silence_seconds: float = 15.0) -> list[str]:
    """One run. Returns what was wrong, one line each; empty: nothing.

    Args:
        silence_seconds: after which a link is lost.
    """
    chance = random.Random(seed)
    rounds = max(2, min(ROUNDS, int(seconds / 4)), int(seconds / LONGEST_ROUND_SECONDS))
    samples: dict[str, list[Sample]] = {"hub": [], "agent": []}
    wrong: list[str] = []
    silence = str(silence_seconds)
    with tempfile.TemporaryDirectory() as folder:
        certificates(Path(folder))
        hub = await asyncio.to_thread(Commanded, "tests.nightly.ends", "hub", folder, "0", silence)
        async with fault_proxy("127.0.0.1", hub.first, seed=seed) as proxy:
            agent = await asyncio.to_thread(Commanded, "tests.nightly.ends", "agent", folder, str(proxy.port), silence)
            for number in range(rounds):
                await asyncio.to_thread(hub.tell, "call", f"{seed} {number}")
                await trouble(proxy, chance, seconds / rounds)
                told = await asyncio.to_thread(hub.tell, "rest")
                samples["hub"].append(Sample(**told["sample"]))
                samples["agent"].append(Sample(**(await asyncio.to_thread(agent.tell, "rest"))["sample"]))
                wrong = told["wrong"]
                say(f"round {number + 1} of {rounds}: {told['counts']}")
                for name, taken in samples.items():
                    say(f"  {name}: {taken[-1]}")
            await asyncio.to_thread(agent.end)
        await asyncio.to_thread(hub.end)
    for name, taken in samples.items():
        wrong += faults(name, taken, sessions=len(LINKS))
    return wrong + [f"no call of the kind {name}" for name in missing(told["counts"])]


def missing(counts: dict[str, int]) -> list[str]:
    """Kinds of call that never succeeded."""
    return [call.__name__ for call in CALLS if not counts.get(call.__name__)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.nightly.churn", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    wrong = asyncio.run(churn(given.minutes * 60, given.seed, say))
    for line in wrong:
        say(f"WRONG: {line}")
    say(f"churn of {given.minutes:g} minutes, seed {given.seed}: {'wrong' if wrong else 'flat, and every byte right'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
