"""Fault rules that every type has (equipment.md §6); data. Closed to the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from domain.catalogue.facts import Facts
from domain.catalogue.fault_rule import FaultRule
from domain.findings import Kind, Severity


class Code(NamedTuple):
    """What a maker's fault code means to us; ``about`` is the fault family it speaks of, empty where none fits."""

    severity: Severity
    kind: Kind
    cause: str
    about: str = ""


UNKNOWN_CODE = Code(Severity.P3, Kind.UNDECIDED, "unknown")
COMMON_CODES: Mapping[str, Code] = {}

SILENT_RULE: FaultRule[Facts] = FaultRule(
    # R01 offline: no message for 3 intervals (at least 90 s), for 180 s; EJ. Judged by ``Detector.tick``, not by samples
    key="R01", family="connection", severity=Severity.P2, kind=Kind.UNDECIDED, on_s=180, off_s=0,
    raises=lambda f: False, clears=lambda f: True,
)  # fmt: skip

_BANDS = {1: (198.0, 235.4, 155.0, 275.0), 3: (353.4, 406.6, 268.5, 476.3)}
"""V by phases: legal low, high [S9]; dangerous low, high [S1 E5], between phases √3 as much."""


def _outside(f: Facts, low: float, high: float) -> bool:
    return f.volt_low < low or f.volt_high > high


def voltage() -> tuple[FaultRule[Facts], ...]:
    """R02: supply voltage outside the legal band (the site's matter: S-F7), dangerous far outside it."""

    def rows(severity: Severity, cause: str, nth: int, *, guarded: bool) -> FaultRule[Facts]:
        def band(f: Facts) -> tuple[float, float]:
            limits = _BANDS[3 if f.card.phases == 3 else 1]
            return limits[nth], limits[nth + 1]

        return FaultRule(
            key="R02", family="supply", severity=severity, kind=Kind.FALSE, cause=cause, on_s=60, off_s=60, guarded=guarded,
            when=lambda f: f.volt_low == f.volt_low, evidence=("volt_low", "volt_high"),
            raises=lambda f: _outside(f, *band(f)),
            clears=lambda f: not _outside(f, band(f)[0] * 1.01, band(f)[1] * 0.99),
        )  # fmt: skip

    return rows(Severity.P1, "danger", 2, guarded=False), rows(Severity.P3, "band", 0, guarded=True)


def bounds() -> tuple[FaultRule[Facts], ...]:
    """R22: a value outside its range (``rejected``), or implausible though on the wire's scale; 3 samples [S23,S33]."""
    return (
        FaultRule(
            key="R22", family="sensor", severity=Severity.P3, kind=Kind.REAL, cause="out_of_range", on_s=0, off_s=0,
            raises=lambda f: bool(f.rejected) or f.implausible,
            clears=lambda f: not f.rejected and not f.implausible,
        ),
    )  # fmt: skip


def maker_code(codes: Mapping[str, Code]) -> tuple[FaultRule[Facts], ...]:
    """R26: the maker's own code, weighed by ``codes`` (per type; the same number means different things [S33])."""
    return (
        FaultRule(
            key="R26", family="code", severity=UNKNOWN_CODE.severity, kind=UNKNOWN_CODE.kind, on_s=5, off_s=30, min_samples=2,
            raises=lambda f: bool(f.code), clears=lambda f: not f.code, evidence=("code",),
            weigh=lambda f: codes.get(f.code, UNKNOWN_CODE)[:3],
        ),
    )  # fmt: skip
