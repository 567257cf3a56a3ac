"""A stand-in for the upstream API server's reviews. It knows tokens and rules by heart and counts the questions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from syncer.kube.errors import Unreachable


@dataclass
class Answer:
    body: bytes


@dataclass
class Reviews:
    """`tokens` {token: (user, groups)}; `rules` {(user, verb, resource, namespace or "*")}."""

    tokens: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    rules: set[tuple[str, str, str, str]] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    down: bool = False

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
        timeout_seconds: float,
        verb: str = "",
    ) -> Any:
        self.asked.append(path.rpartition("/")[2])
        await asyncio.sleep(0)
        if self.down:
            raise Unreachable(0, "Unreachable", "upstream: cannot connect")
        assert body is not None
        spec = orjson.loads(body)["spec"]
        if path.endswith("tokenreviews"):
            known = self.tokens.get(spec["token"])
            user = {"username": known[0], "groups": known[1]} if known else {}
            return Answer(orjson.dumps({"status": {"authenticated": known is not None, "user": user}}))
        if "nonResourceAttributes" in spec:
            what = spec["nonResourceAttributes"]
            rule = (spec["user"], what["verb"], what["path"], "*")
        else:
            what = spec["resourceAttributes"]
            plural = f"{what['resource']}/{what['subresource']}" if what["subresource"] else what["resource"]
            resource = f"{plural}.{what['group']}" if what["group"] else plural
            rule = (spec["user"], what["verb"], resource, what["namespace"] or what["name"] or "*")
        allowed = rule in self.rules or (*rule[:3], "*") in self.rules
        return Answer(orjson.dumps({"status": {"allowed": allowed}}))
