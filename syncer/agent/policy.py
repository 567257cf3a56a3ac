"""What may be asked of this cluster through the tunnel. Pure.

The hub is not trusted with more than this file grants: a request passes if a rule names it, whatever the hub says. Two
lists, because two parties ask. `sync` is Syncline itself, with the agent's own rights. `people` are users whom the hub
impersonates; their RBAC on this cluster decides besides. Whom it may impersonate is in the same file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import unquote

import msgspec
import yaml
from msgspec import Meta

from syncer.api.keys import GroupResource
from syncer.api.names import API_VERSION, Reason
from syncer.errors import TerminalError
from syncer.kube.apirequest import Attributes
from syncer.kube.http1 import Headers

KIND: Final = "AgentPolicy"
SIZE_LIMIT: Final = 1024 * 1024  # bytes
VERBS: Final = frozenset({"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"})
READS: Final = frozenset({"get", "list", "watch"})
EVERYBODY: Final = "system:authenticated"
_RESERVED: Final = "system:"
_IMPERSONATE: Final = b"impersonate-"
_EXTRA: Final = b"impersonate-extra-"
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9a-f]{2})")


class _Wrong(ValueError):
    """A value that its type allows and the policy does not."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class Rule(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Requests that are allowed.

    Attributes:
        resources: `deployments.apps`, `configmaps`, `pods/log`. `*.apps` is every kind of a group, `*` of the core
            group, `*.*` of all. A pattern covers no subresource but `status` and `scale`; others are named with the
            kind, such as `pods/exec`.
        verbs: Kubernetes' own, or `*`. Opening exec, attach and portforward is `create`, over WebSocket too.
        namespaces: patterns such as `team-*`. A request about all namespaces at once needs `*`.
        except_namespaces: patterns of those that are never written to, whatever `namespaces` says; reading is not
            limited by it.
    """

    resources: Annotated[tuple[str, ...], Meta(min_length=1)]
    verbs: Annotated[tuple[str, ...], Meta(min_length=1)]
    namespaces: tuple[str, ...] = ("*",)
    except_namespaces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [verb for verb in self.verbs if verb != "*" and verb not in VERBS]
        if unknown:
            raise _Wrong("verbs", f"unknown verb {unknown[0][:32]!r}; known are *, {', '.join(sorted(VERBS))}")

    def allows(self, asked: Attributes) -> bool:
        """Whether this rule names the request."""
        return (
            ("*" in self.verbs or asked.verb in self.verbs)
            and any(_covers(pattern, asked.resource, asked.subresource) for pattern in self.resources)
            and self._reaches(asked)
        )

    def _reaches(self, asked: Attributes) -> bool:
        # A namespace is the place that a write to it changes.
        place = asked.name if asked.resource == GroupResource("", "namespaces") else asked.namespace
        if not any(pattern == "*" or (place and fnmatchcase(place, pattern)) for pattern in self.namespaces):
            return False
        if asked.verb in READS or not self.except_namespaces:
            return True
        return not any(fnmatchcase(place, pattern) for pattern in self.except_namespaces)


def _covers(pattern: str, resource: GroupResource, subresource: str) -> bool:
    kind, _, named = pattern.partition("/")
    name, _, group = kind.partition(".")
    if name not in ("*", resource.resource) or group not in ("*", resource.group):
        return False
    if named:
        return named == subresource
    return not subresource or (name == "*" and subresource in ("status", "scale"))


class People(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Users who come through the hub.

    Attributes:
        users: patterns of names that may be impersonated. Names that begin with `system:` never are.
        groups: groups that may be impersonated, exact names. `system:authenticated` always may, other groups of
            `system:` never. A user with a group beside them is refused: without it they would be somebody else.
        extra: keys of what else upstream knows of a user, exact names or `*`.
        rules: what they may ask for.
    """

    users: tuple[str, ...] = ("*",)
    groups: tuple[str, ...] = ()
    extra: tuple[str, ...] = ("authentication.kubernetes.io/credential-id",)
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        for field, names in (("users", self.users), ("groups", self.groups)):
            for name in names:
                if name.startswith(_RESERVED):
                    raise _Wrong(field, f"{name[:64]!r} begins with system: and is never impersonated")
        for name in self.groups:
            if "*" in name:
                raise _Wrong("groups", f"{name[:64]!r}: groups are exact names; a pattern would let the hub choose")


class Policy(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """The whole file.

    Attributes:
        paths: what is no resource and may be read by all: exact, or a prefix that ends with `*`.
    """

    api_version: str = API_VERSION
    kind: str = KIND
    sync: tuple[Rule, ...] = ()
    people: People = People()
    paths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, value, known in (("apiVersion", self.api_version, API_VERSION), ("kind", self.kind, KIND)):
            if value != known:
                raise _Wrong(field, f"must be {known}")

    def refusal(self, asked: Attributes, identity: Identity | None) -> str:
        """Why a request may not pass, "" if it may.

        Args:
            identity: who is impersonated; None for Syncline itself.
        """
        if identity is not None and (why := self._whom(identity)):
            return why
        if asked.path:
            known = any(p == asked.path or (p[-1:] == "*" and asked.path.startswith(p[:-1])) for p in self.paths)
            if known and asked.verb == "get":
                return ""
        else:
            rules = self.sync if identity is None else self.people.rules
            if any(rule.allows(asked) for rule in rules):
                return ""
        return f"the agent's policy does not allow to {asked}"

    def _whom(self, identity: Identity) -> str:
        people = self.people
        if identity.user.startswith(_RESERVED):
            return f"the agent impersonates no user of system: ({identity.user[:64]})"
        if not any(fnmatchcase(identity.user, pattern) for pattern in people.users):
            return f"the agent's policy does not allow to impersonate user {identity.user[:64]}"
        for group in identity.groups:
            if group.startswith(_RESERVED) and group != EVERYBODY:
                return f"the agent impersonates no group of system: ({group[:64]}); come as a user who is not in it"
            if group != EVERYBODY and group not in people.groups:
                return f"the agent's policy does not allow to impersonate group {group[:64]}; people.groups lists them"
        for key in identity.extra:
            if key not in people.extra and "*" not in people.extra:
                return f"the agent's policy does not allow to impersonate with extra {key[:64]}"
        return ""


class Identity(NamedTuple):
    """Whom a request impersonates; `extra` are the keys."""

    user: str
    groups: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


class BadIdentity(Exception):
    """Headers that impersonate nobody in particular, or two at once."""


def read_identity(headers: Headers) -> Identity | None:
    """Whom the `Impersonate-*` headers name; None if there are none.

    Raises:
        BadIdentity: no user or two, an empty name, or a header that is none of Kubernetes' four.
    """
    users: list[str] = []
    groups: list[str] = []
    extra: list[str] = []
    uids = 0
    for name, value in headers:
        if not name.startswith(_IMPERSONATE):
            continue
        if name == b"impersonate-user":
            users.append(_text(value))
        elif name == b"impersonate-group":
            groups.append(_text(value))
        elif name == b"impersonate-uid":
            uids += 1
        elif name.startswith(_EXTRA) and len(name) > len(_EXTRA):
            extra.append(_extra_key(name[len(_EXTRA) :]))
        else:
            raise BadIdentity("an unknown Impersonate header")
    if not users and not groups and not uids and not extra:
        return None
    if len(users) != 1 or uids > 1:
        raise BadIdentity("exactly one user can be impersonated")
    return Identity(users[0], tuple(groups), tuple(extra))


def _text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise BadIdentity("a name that is not UTF-8") from None
    if not text or text != text.strip():
        raise BadIdentity("an empty name, or one with blanks around it")
    return text


def _extra_key(name: bytes) -> str:
    """`authentication.kubernetes.io%2fcredential-id` → with the slash, as API servers read it."""
    text = name.decode("latin-1")
    if _BROKEN_ESCAPE.search(text):
        raise BadIdentity("a key of Impersonate-Extra that is not percent-encoded")
    return unquote(text)


def parse_policy(text: bytes, *, where: str = "the policy") -> Policy:
    """Read a policy file; an empty one allows nothing.

    Raises:
        TerminalError: names the field and what is wrong.
    """
    if len(text) > SIZE_LIMIT:
        raise _bad(where, f"is larger than {SIZE_LIMIT} bytes")
    try:
        document: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        raise _bad(where, f"is not YAML{f' (line {mark.line + 1})' if mark else ''}") from None
    if document is None:
        return Policy()
    if not isinstance(document, dict):
        raise _bad(where, "is not a map of apiVersion, kind, sync, people and paths")
    try:
        return msgspec.convert(document, Policy)
    except msgspec.ValidationError as error:
        why, _, place = str(error).partition(" - at `$")
        pointer = place.rstrip("`").replace(".", "/").replace("[", "/").replace("]", "")
        if isinstance(error.__cause__, _Wrong):
            pointer += f"/{error.__cause__.field}"
        raise _bad(where, f"{pointer or '/'}: {why}", pointer) from None


def load_policy(path: Path) -> Policy:
    """Read the file. Raises TerminalError: it is missing, unreadable, or wrong."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise _bad(str(path), f"cannot be read: {error.strerror}") from error
    return parse_policy(text, where=str(path))


def _bad(where: str, why: str, pointer: str | None = None) -> TerminalError:
    return TerminalError(Reason.INVALID, f"{where}: {why}", pointer=pointer)


def policy_text(policy: Policy, comments: Sequence[str] = ()) -> str:
    """The file for people: YAML with a head of comments; what is left out has its default."""
    document: dict[str, Any] = {"apiVersion": API_VERSION, "kind": KIND} | msgspec.to_builtins(policy)
    head = "".join(f"# {line}\n" if line else "#\n" for line in comments)
    return head + yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=118)
