"""`image`: parts of image references, by the rules of the container tools."""

from __future__ import annotations

from typing import NamedTuple

from syncer.api.transforms import ImageTransform
from syncer.transform.draft import Draft
from syncer.transform.errors import OperationError
from syncer.transform.operations.base import Context, Operation, writable_pod_spec
from syncer.transform.podspec import containers, name_matcher
from syncer.transform.target import compile_value, expand

DEFAULT_REGISTRY = "docker.io"


class ImageReference(NamedTuple):
    """`registry/repository:tag@digest`; parts that were not written are ""."""

    registry: str
    repository: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """As container tools do: the first part is a host if it has a dot, a port or capitals, or is `localhost`."""
        rest, _, digest = text.partition("@")
        head, slash, tail = rest.partition("/")
        registry = head if slash and _is_host(head) else ""
        path = tail if registry else rest
        repository, colon, tag = path.rpartition(":")
        return cls(registry, repository, tag, digest) if colon else cls(registry, path, "", digest)

    def expanded(self) -> ImageReference:
        """With the registry that a short name stands for: `nginx` is `docker.io/library/nginx`."""
        registry = self.registry or DEFAULT_REGISTRY
        if registry in (DEFAULT_REGISTRY, "index.docker.io") and "/" not in self.repository:
            return self._replace(registry=DEFAULT_REGISTRY, repository=f"library/{self.repository}")
        return self._replace(registry=registry)

    def __str__(self) -> str:
        registry = self.registry
        if not registry and _is_host(self.repository.partition("/")[0]) and "/" in self.repository:
            registry = DEFAULT_REGISTRY  # else the first part of the repository would read as a host
        return (
            (f"{registry}/" if registry else "")
            + self.repository
            + (f":{self.tag}" if self.tag else "")
            + (f"@{self.digest}" if self.digest else "")
        )


def _is_host(part: str) -> bool:
    return "." in part or ":" in part or part == "localhost" or part != part.lower()


def compile_image(model: ImageTransform) -> Operation:
    """A new tag drops the old digest and a new digest the old tag, since a digest wins over a tag."""
    for field in ("registry", "repository"):
        part = getattr(model, field)
        if part is not None and (part.startswith("/") or part.endswith("/") or "@" in part or "://" in part):
            raise OperationError(f"{part!r} is not a {field}", at=f"/{field}")
    matches = name_matcher(list(model.containers))
    registry, repository = compile_value(model.registry), compile_value(model.repository)

    def apply(draft: Draft, context: Context) -> None:
        spec = writable_pod_spec(draft, context)
        if spec is None:
            return
        for container in containers(draft, spec, matches):
            text = container.get("image")
            if not isinstance(text, str) or not text:
                continue
            reference = ImageReference.parse(text)
            if registry is not None:
                reference = reference.expanded()._replace(registry=expand(registry, context.target))
            if repository is not None:
                reference = reference._replace(repository=expand(repository, context.target))
            if model.tag is not None or model.digest is not None:
                reference = reference._replace(tag=model.tag or "", digest=model.digest or "")
            container["image"] = str(reference)

    return apply
