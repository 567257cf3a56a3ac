"""Users at work: seeded changes of many ConfigMaps upstream, and a book of what they asked for."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import Any

from tests.e2e.manifests import config_map
from tests.support.api import Api

ON = {"go": "yes"}


class Churn(threading.Thread):
    """Changes objects at a steady rate until `stop`. Every object whose label says so is to be on the targets.

    Attributes:
        wanted: {name: data} of the objects that should be on the targets.
        partings: {name: times} that a delete upstream or a removed label asked for the object to go.
        changes: number of requests that changed something.
    """

    def __init__(self, api: Api, namespace: str, *, objects: int, seed: int, every_seconds: float = 0.03) -> None:
        super().__init__(name="churn")
        self.wanted: dict[str, dict[str, str]] = {}
        self.partings: Counter[str] = Counter()
        self.changes = 0
        self.failure: BaseException | None = None
        self._api, self._namespace = api, namespace
        self._rng = random.Random(seed)
        self._every_seconds = every_seconds
        self._unlabelled: dict[str, dict[str, str]] = {}
        self._deleted: list[str] = []
        self._ending = threading.Event()
        for number in range(objects):
            self._create(f"c{number:03}")

    def run(self) -> None:
        """Partings stay below one a second: more than ten a minute that nobody saw would freeze a target."""
        try:
            parted = time.monotonic()
            while not self._ending.wait(self._every_seconds):
                if time.monotonic() - parted > 1.2:
                    parted = time.monotonic()
                    self._part_or_return()
                else:
                    self._update(self._rng.choice(sorted(self.wanted)))
        except BaseException as error:
            self.failure = error

    def stop(self) -> None:
        """End, and raise what went wrong."""
        self._ending.set()
        self.join()
        if self.failure is not None:
            raise self.failure

    def _part_or_return(self) -> None:
        what = self._rng.choice(["delete", "unlabel", "create", "label"])
        if what == "delete" or (what == "create" and not self._deleted):
            name = self._rng.choice(sorted(self.wanted))
            self._api.delete("configmap", self._namespace, name)
            del self.wanted[name]
            self._deleted.append(name)
            self.partings[name] += 1
        elif what == "create":
            self._create(self._deleted.pop(self._rng.randrange(len(self._deleted))))
        elif what == "unlabel" or not self._unlabelled:
            name = self._rng.choice(sorted(self.wanted))
            self._patch(name, {"metadata": {"labels": {"go": None}}})
            self._unlabelled[name] = self.wanted.pop(name)
            self.partings[name] += 1
        else:
            name = self._rng.choice(sorted(self._unlabelled))
            self._patch(name, {"metadata": {"labels": ON}})
            self.wanted[name] = self._unlabelled.pop(name)
        self.changes += 1

    def _create(self, name: str) -> None:
        data = {"value": str(self._rng.random())}
        self._api.create("configmap", self._namespace, config_map(self._namespace, name, ON, **data))
        self.wanted[name] = data

    def _update(self, name: str) -> None:
        data = {"value": str(self._rng.random())}
        self._patch(name, {"data": data})
        self.wanted[name] = data
        self.changes += 1

    def _patch(self, name: str, patch: dict[str, Any]) -> None:
        self._api.patch("configmap", self._namespace, name, patch)
