"""The compiled core as tests see it: built from this checkout, and what crosses its border."""

from __future__ import annotations

import ctypes
import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

CRATE = Path(__file__).parents[1] / "gateway" / "core"
_FILE = {"win32": "brewair_core.dll", "darwin": "libbrewair_core.dylib"}.get(sys.platform, "libbrewair_core.so")


class _Buffer(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), ("len", ctypes.c_size_t))


@functools.cache
def library() -> ctypes.CDLL:
    """The core, as its sources are now. Skips the asking test where there is no cargo."""
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip("no cargo here to build the compiled core with")
    subprocess.run(
        [cargo, "build", "--release", "--quiet", "--locked", "--target-dir", CRATE / "target"], cwd=CRATE, check=True
    )
    core = ctypes.CDLL(str(CRATE / "target" / "release" / _FILE))
    core.brewair_probe.argtypes, core.brewair_probe.restype = (ctypes.c_char_p, ctypes.c_size_t), _Buffer
    core.brewair_probe_free.argtypes, core.brewair_probe_free.restype = (_Buffer,), None
    text, size, handle = ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p
    for name, result, arguments in (
        ("new", handle, (text, size, text, size)),
        ("load", ctypes.c_bool, (handle, text, size)),
        ("fold", ctypes.c_int64, (handle, text, size, ctypes.c_int64)),
        ("dump", handle, (handle, ctypes.POINTER(size))),
        ("free_text", None, (handle, size)),
        ("free", None, (handle,)),
    ):
        function = getattr(core, f"brewair_single_{name}")
        function.restype, function.argtypes = result, arguments
    return core


def probe(given: Mapping[str, Any]) -> Any:
    """What ``brewair_probe`` (gateway/core/src/probe.rs) answers."""
    core, question = library(), json.dumps(given, allow_nan=False).encode()
    answer = core.brewair_probe(question, len(question))
    try:
        return json.loads(ctypes.string_at(answer.at, answer.len))
    finally:
        core.brewair_probe_free(answer)
