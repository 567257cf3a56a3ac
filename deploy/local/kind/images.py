"""The images of a node: those of the control plane, those that kind adds, and two small ones for tests.

All are written from our own binaries and Debian's files, in the tar that `kind build node-image --type file` reads.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.assets import KUBERNETES_VERSION
from deploy.local.errors import GroundError
from deploy.local.kind.archive import Image, Layer, write_archive
from deploy.local.kind.commands import run
from deploy.local.kind.rootfs import libraries

BUSYBOX_IMAGE = "syncline.test/busybox:1"  # a shell and a web server in one static file
CURL_IMAGE = "syncline.test/curl:1"  # bash, curl and tar; its resolver is glibc's, which static busybox is not up to
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_KUBE_PROXY_PROGRAMS = ("usr/sbin/xtables-nft-multi", "usr/sbin/nft", "usr/sbin/conntrack")
_IPTABLES = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")


@dataclass(frozen=True)
class Sources:
    """Where the content of the images comes from.

    Attributes:
        tools: folder of the tools that are built for kind.
        control_plane: {tool: binary} of the control planes.
        root: the node's root file system, for programs of Debian.
        kind_source: folder of kind's Go module, which names the images that kind wants.
        architecture: in Go's words, `amd64`.
    """

    tools: Path
    control_plane: Mapping[str, Path]
    root: Path
    kind_source: Path
    architecture: str


@dataclass(frozen=True)
class Names:
    """The full names of the images that kubeadm and kind ask for; anything missing would be pulled."""

    etcd: str
    coredns: str
    pause: str
    kindnetd: str
    provisioner: str
    provisioner_helper: str


def names_of(sources: Sources) -> Names:
    """Ask kubeadm and the source of kind.

    Raises:
        GroundError: kind's source has other words than the pinned version.
    """
    kubeadm = str(sources.tools / "kubeadm")
    listing = [kubeadm, "config", "images", "list", f"--kubernetes-version={KUBERNETES_VERSION}"]
    listed = run(listing, timeout_seconds=30).stdout.split()
    of_kubeadm = {name.rpartition(":")[0].rpartition("/")[2]: name for name in listed}
    package = sources.kind_source / "pkg" / "build" / "nodeimage"
    containerd = sources.root / "etc" / "containerd" / "config.toml"
    return Names(
        etcd=of_kubeadm["etcd"],
        coredns=of_kubeadm["coredns"],
        pause=_quoted(containerd, "sandbox_image ="),
        kindnetd=_quoted(package / "const_cni.go", "const kindnetdImage ="),
        provisioner=_quoted(package / "const_storage.go", "const storageProvisionerImage ="),
        provisioner_helper=_quoted(package / "const_storage.go", "const storageHelperImage ="),
    )


def _quoted(path: Path, before: str) -> str:
    found = re.search(rf'^\s*{re.escape(before)}\s*"([^"]+)"', path.read_text(), re.MULTILINE)
    if not found:
        raise GroundError(f"{path} does not say `{before}`", hint="the pinned version of kind is another one")
    return found[1]


def write_server_tar(path: Path, sources: Sources, scratch: Path) -> None:
    """Write the "kubernetes-server" tar of which kind builds a node image.

    Args:
        scratch: an empty folder for what lies between; the caller removes it.
    """
    names = names_of(sources)
    layers = {name: scratch / f"{name}.layer" for name in (*_CONTROL_PLANE, "etcd", "coredns", "provisioner", "pause")}
    binaries = {
        **{name: sources.control_plane[name] for name in (*_CONTROL_PLANE, "etcd")},
        "coredns": sources.tools / "coredns",
        "provisioner": sources.tools / "local-path-provisioner",
        "pause": sources.root / "usr/bin/catatonit",
    }
    for name, binary in binaries.items():
        _program(binary, sources.root).write(layers[name])
    busybox, curl, proxy = (scratch / f"{name}.layer" for name in ("busybox", "curl", "kube-proxy"))
    busybox_layer(sources.root).write(busybox)
    curl_layer(sources.root).write(curl)
    kube_proxy_layer(sources.root, sources.tools / "kube-proxy").write(proxy)

    def image(tag: str, layer: Path, *extra_tags: str, **config: Any) -> Image:
        return Image((tag, *extra_tags), layer, {"Env": [_PATH], **config})

    archives = {name: [image(f"registry.k8s.io/{name}:{KUBERNETES_VERSION}", layers[name])] for name in _CONTROL_PLANE}
    # kind takes four archives and no more: all others come with kube-proxy. Nothing runs kindnetd, but kind wants it.
    archives["kube-proxy"] = [
        image(f"registry.k8s.io/kube-proxy:{KUBERNETES_VERSION}", proxy),
        image(names.etcd, layers["etcd"]),
        image(names.coredns, layers["coredns"], Entrypoint=["/usr/local/bin/coredns"]),
        image(names.pause, layers["pause"], names.kindnetd, Entrypoint=["/usr/local/bin/catatonit", "-P"]),
        image(names.provisioner, layers["provisioner"]),
        image(names.provisioner_helper, busybox, BUSYBOX_IMAGE, Cmd=["/bin/sh"]),
        image(CURL_IMAGE, curl, Cmd=["/bin/bash"]),
    ]
    version = scratch / "version"
    version.write_text(KUBERNETES_VERSION)
    with tarfile.open(path, "w:gz", compresslevel=1) as out:  # kind reads no other compression
        out.add(version, "kubernetes/version")
        for name, images in archives.items():
            archive = scratch / f"{name}.tar"
            write_archive(archive, images, architecture=sources.architecture)
            out.add(archive, f"kubernetes/server/bin/{name}.tar")
        for name in ("kubeadm", "kubelet"):
            out.add(sources.tools / name, f"kubernetes/server/bin/{name}")
        out.add(sources.control_plane["kubectl"].resolve(), "kubernetes/server/bin/kubectl")


def write_node_base(path: Path, tag: str, root: Path, scratch: Path, *, architecture: str) -> None:
    """Write the archive of the image that kind builds node images from."""
    layer = scratch / "base.layer"
    run(["tar", "-C", root, "--numeric-owner", "-cf", layer, "."], timeout_seconds=300)
    config = {
        "Env": [_PATH, "container=docker"],
        "StopSignal": "SIGRTMIN+3",  # ends systemd; SIGTERM makes it start itself again
        "Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"],
    }
    write_archive(path, [Image((tag,), layer, config)], architecture=architecture)
    layer.unlink()


def _base(root: Path) -> Layer:
    layer = Layer()
    layer.folder("tmp", mode=0o1777)
    layer.text("etc/passwd", "root:x:0:0:root:/:/sbin/nologin\n")
    layer.file("etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt", mode=0o644)
    return layer


def _program(binary: Path, root: Path) -> Layer:
    layer = _base(root)
    layer.file(f"usr/local/bin/{binary.name}", binary)
    return layer


def busybox_layer(root: Path) -> Layer:
    """A static busybox with a link for each of its commands."""
    layer = _base(root)
    busybox = root / "bin/busybox"
    layer.file("bin/busybox", busybox)
    for command in run([busybox, "--list"], timeout_seconds=10).stdout.split():
        if command != "busybox":
            layer.link(f"bin/{command}", "busybox")
    return layer


def curl_layer(root: Path) -> Layer:
    """busybox, and bash, curl and tar with the libraries that they load."""
    layer = busybox_layer(root)
    _with_libraries(layer, root, ("usr/bin/curl", "usr/bin/tar", "usr/bin/bash", "usr/bin/getent"))
    layer.link("bin/bash", "../usr/bin/bash")
    return layer


def kube_proxy_layer(root: Path, kube_proxy: Path) -> Layer:
    """kube-proxy with Debian's iptables. Its plugins load libraries of their own: without them rules of Services with
    two endpoints fail."""
    layer = _base(root)
    layer.folder("run")
    layer.file("usr/local/bin/kube-proxy", kube_proxy)
    (plugins,) = (root / "usr/lib").glob("*/xtables")
    found = [f"/{path.relative_to(root)}" for path in sorted(plugins.glob("*.so"))]
    _with_libraries(layer, root, _KUBE_PROXY_PROGRAMS, *found)
    for plugin in found:
        layer.file(plugin.lstrip("/"), root / plugin.lstrip("/"), mode=0o644)
    for name in _IPTABLES:
        layer.link(f"usr/sbin/{name}", "xtables-nft-multi")
    layer.link("sbin", "usr/sbin")
    return layer


def within(root: Path, name: str) -> Path:
    """Follow the links of a name in a root file system that is not this machine's own."""
    path = root
    for part in Path(name).parts:
        path = path / part
        while path.is_symlink():
            target = path.readlink()
            path = within(root, str(target).lstrip("/")) if target.is_absolute() else path.parent / target
    return path


def _with_libraries(layer: Layer, root: Path, programs: tuple[str, ...], *more: str) -> None:
    """Add programs and every library that they and `more` load; both lie below /usr, with links from the root."""
    for program in programs:
        layer.file(program, root / program)
    for library in sorted(libraries(root, *(f"/{program}" for program in programs), *more)):
        layer.file(f"usr{library}", within(root, f"usr{library}"))
    layer.link("lib", "usr/lib")
    layer.link("lib64", "usr/lib64")
