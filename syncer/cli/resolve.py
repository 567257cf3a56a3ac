"""`deploy/web` → which resource and which name, by what the API server says it serves. The choice is pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from syncer.api.keys import GroupResource
from syncer.cli.errors import CliError, WrongUse

if TYPE_CHECKING:
    from syncer.kube.client import ClusterClient

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Served(NamedTuple):
    """One resource that a cluster serves, in its preferred version."""

    id: GroupResource
    version: str
    kind: str
    namespaced: bool
    verbs: frozenset[str]
    words: frozenset[str]  # lower case: plural, singular, kind, short names

    def path(self, namespace: str = "", name: str = "") -> str:
        """Path of the collection, or of one object."""
        parts = ["", "apis", self.id.group, self.version] if self.id.group else ["", "api", self.version]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [self.id.resource, name] if name else [self.id.resource]
        return "/".join(quote(part, safe="") for part in parts)


def split(argument: str) -> tuple[str, str]:
    """`KIND/NAME` into its parts.

    Raises:
        WrongUse: it has another form.
    """
    kind, slash, name = argument.partition("/")
    if not slash or not kind or not name or "/" in name:
        raise WrongUse(f"{argument!r} is not KIND/NAME", "Write kind and name with a slash between: deploy/web")
    return kind, name


def served(groups: Sequence[dict[str, Any]]) -> list[Served]:
    """Resources of aggregated discovery documents, preferred versions first, subresources left out."""
    found: dict[GroupResource, Served] = {}
    for group in groups:
        group_name = group.get("metadata", {}).get("name", "")
        for version in group.get("versions", ()):
            for item in version.get("resources", ()):
                key = GroupResource(group_name, item["resource"])
                kind = item.get("responseKind", {}).get("kind", "")
                words = {item["resource"], item.get("singularResource", ""), kind, *item.get("shortNames", ())}
                lower = frozenset(word.lower() for word in words if word)
                verbs = frozenset(item.get("verbs", ()))
                namespaced = item.get("scope") == "Namespaced"
                found.setdefault(key, Served(key, version["version"], kind, namespaced, verbs, lower))
    return list(found.values())


def choose(word: str, resources: Sequence[Served]) -> Served:
    """The resource that `word` means: `deploy`, `Deployment`, `deployments.apps`; built-in groups come first.

    Raises:
        CliError: nothing of that name is served; the hint offers what is spelled alike.
    """
    name, _, group = word.lower().partition(".")
    for resource in resources:
        if name in resource.words and (not group or group == resource.id.group):
            return resource
    known = sorted({word for resource in resources for word in resource.words})
    close = difflib.get_close_matches(name, known, 1)
    advice = f"Did you mean {close[0]}? " if close and close[0] != name else ""
    raise CliError(
        f"the upstream serves no kind {word!r}",
        f"{advice}kubectl api-resources lists what it serves; is its CRD there?",
    )


async def served_by(client: ClusterClient) -> list[Served]:
    """Ask a cluster what it serves.

    Raises:
        CliError: it is too old to say it in one document (Kubernetes before 1.30).
    """
    groups: list[dict[str, Any]] = []
    for path in ("/api", "/apis"):
        document = await client.get_json(path, headers={"Accept": f"{_AGGREGATED},application/json"})
        if document.get("kind") != "APIGroupDiscoveryList":
            raise CliError(
                f"{client.name} does not offer aggregated discovery", "Syncline needs Kubernetes 1.30 or newer there."
            )
        groups += document["items"]
    return served(groups)


async def resolve(client: ClusterClient, word: str) -> Served:
    """The resource that `word` means on a cluster."""
    return choose(word, await served_by(client))
