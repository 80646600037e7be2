"""Builders of sample traces for the detection tests: what a machine would send, as lists of readings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from domain.catalogue.model import ModelCard
from domain.catalogue.registry import card_of
from domain.detection.engine import Detector
from domain.findings import Finding
from domain.readings import Reading, Value

T0 = 1_763_776_800_000
SMM = card_of("soymilk", "SMM-25")
SMM_60 = card_of("soymilk", "SMM-60")
FAU = card_of("freshair", "FAU-300")

HEATING: dict[str, Value] = {"run_state": "heating", "power_w": 6000.0, "voltage_v": 220.0}
STANDBY: dict[str, Value] = {"run_state": "standby", "power_w": 8.0, "voltage_v": 220.0}
RUNNING: dict[str, Value] = {
    "run_state": "running", "level": 3.0, "power_w": 60.0, "voltage_v": 220.0, "fan_supply_rpm": 2200.0, "airflow_m3h": 300.0,
    "filter_dp_pa": 80.0,
}  # fmt: skip


class Trace:
    """Grows by phases; ``seq`` counts, times are on a grid of ``step_s``."""

    def __init__(self, type: str = "soymilk", *, step_s: float = 5.0, start: int = T0, boot: str | None = "b1") -> None:
        self.type, self.step_ms, self.at, self.boot = type, int(step_s * 1000), start, boot
        self.readings: list[Reading] = []

    def phase(self, seconds: float, base: dict[str, Value], **more: Value) -> Trace:
        """``seconds`` of samples with the values of ``base`` and ``more``; None leaves a channel out."""
        values = {k: v for k, v in {**base, **more}.items() if v is not None}
        for _ in range(round(seconds * 1000 / self.step_ms)):
            self.sample(values)
        return self

    def sample(self, values: dict[str, Value], *, rejected: dict[str, float] | None = None) -> Trace:
        """One sample."""
        seq = None if self.boot is None else len(self.readings) + 1
        self.readings.append(
            Reading("M1", self.type, self.at, dict(values), boot=self.boot, seq=seq, rejected=rejected or {})
        )
        self.at += self.step_ms
        return self

    def silence(self, seconds: float) -> Trace:
        """Nothing is sent."""
        self.at += int(seconds * 1000)
        return self

    def __iter__(self) -> Iterator[Reading]:
        return iter(self.readings)


def findings(readings: Iterable[Reading], card: ModelCard = SMM, detector: Detector | None = None) -> list[Finding]:
    """All that a detector said, in order."""
    detector = detector or Detector(card, "M1")
    return [finding for reading in readings for finding in detector.fold(reading)]


def raised(readings: Iterable[Reading], card: ModelCard = SMM) -> list[str]:
    """Rule and severity of what was raised, in order: ``R03/P2``."""
    return [f"{f.rule}/P{f.severity:d}" for f in findings(readings, card) if f.cleared_at is None]
