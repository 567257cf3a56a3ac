"""Which questions the requesting user must pass before an object of ours is admitted. Pure: `handlers` asks them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from syncer.api.names import GROUP
from syncer.api.placement import AnyPlacement, ObjectSelector, Placement
from syncer.api.policy import builtin_kind
from syncer.api.synctarget import SyncTarget
from syncer.webhooks.findings import Context

EVERY_TARGET: Final = ""  # a right on all SyncTargets, which RBAC grants only without resourceNames


@dataclass(frozen=True)
class User:
    """The requesting user as the API server authenticated it."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Question:
    """One SubjectAccessReview, and where in the object it comes from."""

    path: str
    verb: str
    group: str
    resource: str
    namespace: str = ""  # "" asks for every namespace, or for a cluster-scoped resource
    name: str = ""  # "" asks for every name

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        name = f"/{self.name}" if self.name else ""
        return f"{self.verb} {resource}{name}" + (f" in namespace {self.namespace}" if self.namespace else "")


class AccessReviewer(Protocol):
    """Answers for a user; unknown is an error, never a no and never a yes."""

    async def allowed(self, user: User, question: Question) -> bool:
        """Raises TransientError if the API server could not be asked."""
        ...


def targets_used(placement: AnyPlacement) -> set[str]:
    """Names of the targets that a placement may ever reach.

    Names bound it, with or without labels. Labels or `all` alone do not: tomorrow's target may carry the label, so
    they take the right to use every target (`EVERY_TARGET`).
    """
    return set(placement.spec.targets.names) or {EVERY_TARGET}


def placement_questions(placement: AnyPlacement, context: Context) -> Iterator[Question]:
    """`use` on each target, `get` on each selected kind in its namespace."""
    for name in sorted(targets_used(placement)):
        yield Question("spec.targets", "use", GROUP, "synctargets", name=name)
    asked = set()
    for index, entry in enumerate(placement.spec.resources):
        for group, resource, namespace in _kinds(placement, entry, context):
            question = Question(f"spec.resources[{index}]", "get", group, resource, namespace)
            if (group, resource, namespace) not in asked:
                asked.add((group, resource, namespace))
                yield question


def _kinds(placement: AnyPlacement, entry: ObjectSelector, context: Context) -> Iterator[tuple[str, str, str]]:
    """(group, resource, namespace) of what an entry reaches.

    A kind that nobody serves yet has no resource name to ask for: its whole group is asked for, so that it takes an
    administrator to place it blindly.
    """
    namespace = placement.metadata.namespace if isinstance(placement, Placement) else ""
    group = "*" if entry.api_version == "*" else entry.api_version.rpartition("/")[0]
    if "*" in (group, entry.kind):
        yield group, "*", namespace
        return
    served = context.resolve(entry.api_version, entry.kind) or builtin_kind(entry.api_version, entry.kind)
    yield group, served.resource if served else "*", namespace


def sync_target_questions(target: SyncTarget) -> Iterator[Question]:
    """`get` on the Secret it names: the operator must not read Secrets for people who may not."""
    secret = target.kubeconfig_secret()
    if secret is not None:
        path = "spec.connection.direct.kubeconfigSecretRef"
        yield Question(path, "get", "", "secrets", secret.namespace, secret.name or target.metadata.name)
