"""Runs in the image's build stage: gathers what the image is made of, one folder for each of its layers.

`gather.py python` takes the interpreter that runs it, the standard library without what no server needs, and every
shared library that these and the wheels are linked to, with the names and licences of the Debian packages that they
came from. `gather.py app` unpacks our own wheel and writes the program. Both compile what they gathered: nothing can be
written next to the modules later. Only the standard library is imported, for the build stage has nothing else.
"""

from __future__ import annotations

import compileall
import os
import platform
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

IMAGE: Final = Path("/image")
PYTHON, WHEELS, APP = IMAGE / "python", IMAGE / "wheels", IMAGE / "app"
STDLIB: Final = Path(sysconfig.get_path("stdlib"))
INTERPRETER: Final = Path(sys.executable).resolve()
SITE: Final = Path("/opt/syncline")
CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
# Of the standard library: tools for people, tests, and what would draw in libraries for terminals and databases.
LEFT_OUT: Final = frozenset(
    {"dist-packages", "site-packages", "__pycache__", "ensurepip", "venv", "__phello__", "nis", "ossaudiodev"}
    | {"test", "tests", "idlelib", "lib2to3", "pydoc_data", "tkinter", "_tkinter", "turtle", "turtledemo"}
    | {"curses", "_curses", "_curses_panel", "readline", "dbm", "_dbm", "_gdbm", "sqlite3", "_sqlite3"}
)
PROGRAM: Final = f"""#!{INTERPRETER} -ISB
import sys

sys.path += ["{SITE}/app", "{SITE}/wheels"]
from syncer.cli import main

sys.exit(main())
"""


def main(what: str) -> None:
    """Gather one part. Raises OSError, CalledProcessError, SystemExit: something is not as a base must be."""
    if what == "python":
        python()
        compile_modules(PYTHON, STDLIB)
        compile_modules(WHEELS, SITE / "wheels")
    elif what == "app":
        app()
        compile_modules(APP, SITE / "app")
    else:
        sys.exit(f"gather.py python|app, not {what!r}")


def python() -> None:
    """The interpreter, what it loads, and the few files that a C library looks for."""
    if not CERTIFICATES.exists():
        sys.exit(f"{CERTIFICATES} is missing in the base: install ca-certificates there")
    PYTHON.mkdir(parents=True)
    for directory in ("lib", "lib64"):
        link = Path("/", directory)
        if link.is_symlink():  # the base keeps them in /usr, and programs name them here all the same
            (PYTHON / directory).symlink_to(os.readlink(link))
    shutil.rmtree(WHEELS / SITE.relative_to("/") / "wheels/bin", ignore_errors=True)  # programs that nobody calls
    modules = [path for path in STDLIB.rglob("*") if path.is_file() and not left_out(path.relative_to(STDLIB))]
    linked = [INTERPRETER, *(path for path in modules if path.suffix == ".so"), *WHEELS.rglob("*.so*")]
    files = [INTERPRETER, *modules, *libraries(linked), CERTIFICATES, Path("/etc/os-release").resolve()]
    for path in files:
        copy(path)
    write("etc/os-release", Path("/etc/os-release").read_text())
    write("etc/passwd", "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")
    write("etc/group", "root:x:0:\nnonroot:x:65532:\n")
    write("opt/syncline/python-version", f"{platform.python_version()}\n")
    write("etc/nsswitch.conf", "hosts: files dns\n")
    (PYTHON / "tmp").mkdir(mode=0o1777)
    (PYTHON / "tmp").chmod(0o1777)
    for configuration in (Path("/etc/ld.so.conf"), *Path("/etc/ld.so.conf.d").glob("*")):
        copy(configuration)
    told("/sbin/ldconfig", "-r", str(PYTHON))
    shutil.rmtree(PYTHON / "var/cache", ignore_errors=True)
    packages(files)


def told(*command: str, check: bool = True) -> str:
    """What a program of the base prints. Raises CalledProcessError if it fails, where that is to be checked."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=check).stdout  # noqa: S603  programs of the base


def left_out(path: Path) -> bool:
    """Whether a file of the standard library stays behind."""
    return any(part.split(".")[0] in LEFT_OUT or part.startswith(("config-3", "_test", "xx")) for part in path.parts)


def libraries(files: Iterable[Path]) -> set[Path]:
    """The shared libraries of the base that these files load, by the names that they are asked for."""
    found: set[Path] = set()
    for file in files:
        for line in told("ldd", str(file), check=False).splitlines():
            name, _, rest = line.strip().partition(" => ")
            path = (rest or name).split(" (")[0]
            if path == "not found":
                sys.exit(f"{file} needs {name}, which the base has not")
            if path.startswith("/") and not path.startswith(str(IMAGE)):
                found.add(Path(path))
    return found


def copy(path: Path) -> None:
    """A file into the layer at its own place; where its folder is a link, behind the link, as the base has it."""
    place = PYTHON / (path.parent.resolve() / path.name).relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, place)  # follows links: the name that is asked for becomes the file
    place.chmod(0o755 if path.stat().st_mode & 0o111 else 0o644)


def write(name: str, text: str) -> None:
    """A file of our own in the layer."""
    place = PYTHON / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def packages(files: Iterable[Path]) -> None:
    """Which Debian packages these files are of: for scanners in `status.d`, for people their licences."""
    lists = Path("/var/lib/dpkg/info").glob("*.list")
    owners = {path: file.stem for file in sorted(lists) for path in file.read_text().splitlines()}
    # Debian's lists know a file under /lib or under /usr/lib, and by the name before or behind a link.
    names = {name for file in files for name in (str(file), str(file.resolve()))}
    names |= {name.removeprefix("/usr") for name in names}
    for package in sorted({owners[name] for name in names if name in owners}):
        name = package.partition(":")[0]
        write(f"var/lib/dpkg/status.d/{name}", told("dpkg-query", "--status", package))
        licence = Path("/usr/share/doc", name, "copyright")
        if licence.exists():
            copy(licence)


def app() -> None:
    """Our own wheel, unpacked, and the program that starts it."""
    (wheel,) = Path("/src/dist").glob("syncline-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(APP / SITE.relative_to("/") / "app")
    program = APP / "usr/local/bin/syncline"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM)
    program.chmod(0o755)


def compile_modules(layer: Path, folder: Path) -> None:
    """Byte code that does not ask when its source was written, so that equal sources give equal files."""
    done = compileall.compile_dir(
        layer / folder.relative_to("/"),
        quiet=1,
        force=True,
        stripdir=str(layer),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        workers=1,
    )
    if not done:
        sys.exit(f"not every module of {folder} compiles")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
