"""The root file system of a node: Debian's packages, our binaries, and the files of kind's own base image.

It does what `images/base/Dockerfile` of kind does, for a machine without a registry. Differences, and why:
no kindnetd, which is no Go module (containerd writes the CNI configuration itself); no NFS, iSCSI and fuse-overlayfs;
`restrict_oom_score_adj`, because root of a virtual machine may lack CAP_SYS_RESOURCE; `--fail-cgroupv1=false`, because
kubelet 1.35 and newer refuse such machines; catatonit and busybox, of which other images are made.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from deploy.local.kind.commands import run
from deploy.local.kind.mounts import unmount_below
from deploy.local.kind.tools import CNI_PLUGINS
from deploy.local.provider import Report

SUITE = "bookworm"  # its systemd still runs on cgroup v1
PACKAGES = (
    *("systemd", "conntrack", "iptables", "nftables", "iproute2", "ethtool", "util-linux", "mount", "kmod"),
    *("libseccomp2", "pigz", "e2fsprogs", "bash", "ca-certificates", "curl", "jq", "procps", "runc"),
    *("catatonit", "busybox-static"),
)
KUBELET_ARGUMENTS = "--runtime-cgroups=/system.slice/containerd.service --fail-cgroupv1=false"

_CONTAINERD_CNI = """
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
  conf_template = "/etc/containerd/cni.template"
"""
# containerd fills in the Pod network of the node; the rest of what kindnetd does is not needed with one node.
_CNI_TEMPLATE = """\
{"cniVersion": "1.0.0", "name": "syncline", "plugins": [
 {"type": "ptp", "ipMasq": true, "mtu": 1500, "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam-state",
  "routes": [{"dst": "0.0.0.0/0"}],
  "ranges": [{{range $i, $r := .PodCIDRRanges}}{{if $i}},{{end}}[{"subnet": "{{$r}}"}]{{end}}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
"""
_PROXY_PLUGINS = "[proxy_plugins]"
# What kind's Dockerfile removes, so that systemd starts nothing that a node does not need.
_UNWANTED = (
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    "lib/systemd/system/multi-user.target.wants/*",
    "etc/systemd/system/*.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
    "lib/systemd/system/basic.target.wants/*",
    "etc/systemd/system/containerd-fuse-overlayfs.service",
)
_EMPTIED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale", "var/log")
_ENABLED = ("kubelet", "containerd", "undo-mount-hacks")


def build_rootfs(root: Path, *, tools: Path, kind_source: Path, report: Report, log: Path) -> None:
    """Make the root file system of a node in a folder that is not there yet.

    Args:
        tools: folder of our binaries.
        kind_source: folder of kind's Go module.
        log: gets what debootstrap says.

    Raises:
        GroundError: debootstrap failed, most often because no Debian mirror answers.
    """
    report(f"installing Debian {SUITE} into the node's file system, about a minute")
    include = f"--include={','.join(PACKAGES)}"
    try:
        run(["debootstrap", "--variant=minbase", include, SUITE, root], timeout_seconds=600, log=log)
    finally:
        unmount_below(root)
    _copy_files_of_kind(root, kind_source / "images" / "base" / "files")
    _configure_containerd(root)
    (root / "etc/kubernetes/manifests").mkdir(parents=True, exist_ok=True)
    (root / "etc/default/kubelet").write_text(f'KUBELET_EXTRA_ARGS="{KUBELET_ARGUMENTS}"\n')
    (root / "opt/cni/bin").mkdir(parents=True, exist_ok=True)
    for tool in ("containerd", "containerd-shim-runc-v2", "ctr", "crictl"):
        shutil.copy2(tools / tool, root / "usr/local/bin" / tool)
    for plugin in CNI_PLUGINS:
        shutil.copy2(tools / plugin, root / "opt/cni/bin" / plugin)
    _trim(root)
    _write_container_defaults(root)


def libraries(root: Path, *programs: str) -> set[str]:
    """Paths in the root file system of the shared libraries that its programs load."""
    said = run(["chroot", root, "ldd", *programs], timeout_seconds=30).stdout
    words = (word for line in said.splitlines() if not line.endswith(":") for word in line.split())
    return {word for word in words if word.startswith("/lib")}


def _copy_files_of_kind(root: Path, files: Path) -> None:
    for part in ("etc", "kind", "usr", "LICENSES"):
        # Modules are read-only in Go's cache: contents only, then the modes of kind's Dockerfile.
        shutil.copytree(files / part, root / part, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for folder in (root, *(path for path in (root / "kind").rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    for source in files.rglob("*"):
        copied = root / source.relative_to(files)
        if source.is_dir():
            copied.chmod(0o755)
        elif copied.exists():
            copied.chmod(0o755 if "bin" in source.parts else 0o644)


def _configure_containerd(root: Path) -> None:
    config = root / "etc/containerd/config.toml"
    text = without_section(config.read_text(), _PROXY_PLUGINS)
    text = text.replace("restrict_oom_score_adj = false", "restrict_oom_score_adj = true")
    config.write_text(text + _CONTAINERD_CNI)
    (root / "etc/containerd/cni.template").write_text(_CNI_TEMPLATE)


def without_section(text: str, header: str) -> str:
    """Remove a section of a TOML file and the sections right behind it that begin with its name."""
    name = header.strip("[]")
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        if line.startswith("["):
            inside = line.strip() == header or line.startswith(f"[{name}.")
        if not inside:
            kept.append(line)
    return "".join(kept)


def _trim(root: Path) -> None:
    for pattern in _UNWANTED:
        for path in root.glob(pattern):
            path.unlink()
    for folder in _EMPTIED:
        for path in (root / folder).glob("*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    with (root / "etc/systemd/journald.conf").open("a") as file:
        file.write("ReadKMsg=no\n")
    (root / "etc/machine-id").write_text("")
    _link(root / "sbin/init", "/usr/lib/systemd/systemd")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    for service in _ENABLED:
        _link(wants / f"{service}.service", f"/etc/systemd/system/{service}.service")
    _link(root / "etc/systemd/system/systemd-binfmt.service", "/dev/null")


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _write_container_defaults(root: Path) -> None:
    """The OCI spec that every container on the node begins with, as kind's Dockerfile makes it."""
    spec = json.loads(run(["chroot", root, "ctr", "oci", "spec"], timeout_seconds=30).stdout)
    hook = {"path": "/kind/bin/mount-product-files.sh"}
    spec.setdefault("hooks", {}).setdefault("createContainer", []).append(hook)
    spec["process"].pop("rlimits", None)
    (root / "etc/containerd/cri-base.json").write_text(json.dumps(spec))
