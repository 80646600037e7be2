"""The compiled core as tests see it: built from this checkout, and what crosses its border."""

from __future__ import annotations

import ctypes
import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from domain.catalogue.model import ModelCard
from domain.catalogue.registry import EQUIPMENT

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
    return core


def probe(given: Mapping[str, Any]) -> Any:
    """What ``brewair_probe`` (gateway/core/src/probe.rs) answers."""
    core, question = library(), json.dumps(given, allow_nan=False).encode()
    answer = core.brewair_probe(question, len(question))
    try:
        return json.loads(ctypes.string_at(answer.at, answer.len))
    finally:
        core.brewair_probe_free(answer)


def spec_of(card: ModelCard, reference: Mapping[str, float]) -> dict[str, Any]:
    """What all machines of this nameplate share, for the core."""
    equipment = EQUIPMENT[card.type]
    return {
        "type": card.type,
        "card": asdict(card),
        "channels": [{"key": c.key, "kind": c.kind, "low": c.low, "high": c.high} for c in equipment.channels.values()],
        "states": list(equipment.states),
        "active": sorted(equipment.active_states),
        "reference": dict(reference),
    }
