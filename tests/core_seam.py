"""One machine in the compiled core, and beside it the same machine in Python: what one says, the other must say."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from typing import Any

import orjson

from domain import wire
from domain.catalogue.model import ModelCard
from domain.detection.baseline import Baseline
from domain.detection.engine import Detector
from domain.findings import Finding
from domain.readings import Reading
from gateway.adapters.native import NativeAdapter
from gateway.core.programs import compiled
from gateway.ingest.decode import Decoder
from gateway.messages import Message, Registry, Unit
from tests.core_library import library


class Single:
    """One machine in the core."""

    def __init__(self, spec: dict[str, Any], dump: dict[str, Any] | None = None) -> None:
        self._core = library()
        nameplate, memory = json.dumps(spec).encode(), json.dumps(dump).encode()
        self._handle = self._core.brewair_single_new(nameplate, len(nameplate), memory, len(memory))
        assert self._handle, "the core does not understand the spec"

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._core.brewair_single_free(self._handle)

    def fold(self, payload: bytes, recv_ms: int) -> int | None:
        """None: done; else the number of the first object that is for Python."""
        part = int(self._core.brewair_single_fold(self._handle, payload, len(payload), recv_ms))
        return None if part < 0 else part

    def load(self, dump: dict[str, Any]) -> None:
        """Go on with this memory."""
        memory = json.dumps(dump, allow_nan=False).encode()
        assert self._core.brewair_single_load(self._handle, memory, len(memory)), "the core does not take the memory"

    def dump(self) -> dict[str, Any]:
        """The memory, as ``Detector.dump`` writes it."""
        size = ctypes.c_size_t()
        text = self._core.brewair_single_dump(self._handle, ctypes.byref(size))
        try:
            dumped: dict[str, Any] = orjson.loads(ctypes.string_at(text, size.value))
        finally:
            self._core.brewair_single_free_text(text, size)
        return dumped


class Twins:
    """The machine twice. Whatever is told to both must have the same effect on findings and memory."""

    def __init__(self, card: ModelCard, baseline: Baseline | None = None, serial: str = "M1") -> None:
        self.card, self.baseline, self.serial = card, baseline, serial
        self.python = Detector(card, serial, baseline=baseline)
        self.core = Single(compiled(card, baseline))
        self.findings: list[Finding] = []
        self.samples = self.left_to_python = 0
        self._decoder = Decoder([NativeAdapter()], Registry.of([Unit(serial, card.type, card.key)]), known_only=False)

    def hear(self, payload: bytes, recv_ms: int) -> None:
        """One message of telemetry."""
        topic = wire.up(self.card.type, self.serial, "telemetry")
        readings = [
            said for said in self._decoder.decode(Message(topic, payload, recv_ms)) if isinstance(said, Reading)
        ]
        expected = [finding for reading in readings for finding in self.python.fold(reading)]
        part = self.core.fold(payload, recv_ms)
        found: list[Finding] = []
        if part is not None:
            detector = self._in_python()
            found = [finding for reading in readings[part:] for finding in detector.fold(reading)]
            self.core.load(detector.dump())
            self.left_to_python += len(readings) - part
        self.samples += len(readings)
        self._agree(expected, found, payload)

    def interval(self, interval_s: float) -> None:
        """A birth."""
        self.python.interval_s = interval_s
        detector = self._in_python()
        detector.interval_s = interval_s
        self.core.load(detector.dump())

    def tick(self, now_ms: int) -> None:
        """Time passes."""
        detector = self._in_python()
        expected, found = (side.tick(now_ms, peers_online=True) for side in (self.python, detector))
        if found:
            self.core.load(detector.dump())
        self._agree(expected, found, now_ms)

    def rearm(self, at_ms: int) -> None:
        """A repair was verified."""
        detector = self._in_python()
        expected, found = (side.rearm(at_ms) for side in (self.python, detector))
        self.core.load(detector.dump())
        self._agree(expected, found, at_ms)

    def _in_python(self) -> Detector:
        return Detector.load(self.card, self.serial, self.core.dump(), baseline=self.baseline)

    def _agree(self, expected: Sequence[Finding], found: Sequence[Finding], at: object) -> None:
        assert list(found) == list(expected), at
        assert written(self.core.dump()) == written(self.python.dump()), at
        self.findings += expected


def written(dump: dict[str, Any]) -> bytes:
    """A memory as text that tells 1 from 1.0 and from true, whatever the order of keys."""
    return orjson.dumps(dump, option=orjson.OPT_SORT_KEYS)
