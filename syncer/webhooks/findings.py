"""What a rule says, and what it may know of the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from syncer.api.names import Reason
from syncer.api.placement import AnyPlacement
from syncer.api.policy import builtin_kind
from syncer.api.synctarget import SyncTarget


@dataclass(frozen=True)
class Finding:
    """One fault of an object, or one warning, at the path where it is to be mended."""

    path: str
    message: str
    severity: Literal["error", "warning"] = "error"
    reason: Reason = Reason.INVALID

    @property
    def code(self) -> int:
        """HTTP code of a refusal: 403 for what nobody may do here, 422 for what is wrong."""
        return 403 if self.reason in (Reason.FORBIDDEN, Reason.RESOURCE_DENIED) else 422

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ServedKind(Protocol):
    """A kind of the upstream; `syncer.kube.objects.ResourceInfo` is one."""

    @property
    def group(self) -> str: ...
    @property
    def resource(self) -> str: ...
    @property
    def namespaced(self) -> bool: ...


@dataclass(frozen=True)
class Context:
    """What the rules may know besides the object.

    Attributes:
        targets: every known SyncTarget by name.
        placements: every other known placement, the object itself may be among them.
        resolve: (api_version, kind) → the kind as served upstream; None when it is not served.
        schema_checked: the API server evaluated the CRD's own rules already; they are not evaluated again, which saves
            the operator the CEL library (8 MiB) as long as no transform uses it.
        hub_id: UID of the upstream's kube-system namespace; "" when it is not known yet.
    """

    targets: Mapping[str, SyncTarget] = field(default_factory=dict)
    placements: Sequence[AnyPlacement] = ()
    resolve: Callable[[str, str], ServedKind | None] = builtin_kind
    schema_checked: bool = False
    hub_id: str = ""
