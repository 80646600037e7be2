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


def voltage() -> tuple[FaultRule[Facts], ...]:
    """R02: supply voltage outside the legal band (the site's matter: S-F7), dangerous far outside it; 1 % back to clear."""
    return (
        FaultRule(
            key="R02", family="supply", severity=Severity.P1, kind=Kind.FALSE, cause="danger", on_s=60, off_s=60, guarded=False,
            when=lambda f: f.volt_low == f.volt_low, evidence=("volt_low", "volt_high"),
            raises=lambda f: f.volt_low < f.danger_low or f.volt_high > f.danger_high,
            clears=lambda f: f.volt_low >= f.danger_low * 1.01 and f.volt_high <= f.danger_high * 0.99,
        ),
        FaultRule(
            key="R02", family="supply", severity=Severity.P3, kind=Kind.FALSE, cause="band", on_s=60, off_s=60,
            when=lambda f: f.volt_low == f.volt_low, evidence=("volt_low", "volt_high"),
            raises=lambda f: f.volt_low < f.legal_low or f.volt_high > f.legal_high,
            clears=lambda f: f.volt_low >= f.legal_low * 1.01 and f.volt_high <= f.legal_high * 0.99,
        ),
    )  # fmt: skip


def bounds() -> tuple[FaultRule[Facts], ...]:
    """R22: a value outside its range (``rejected``), or implausible though on the wire's scale; 3 samples [S23,S33]."""
    return (
        FaultRule(
            key="R22", family="sensor", severity=Severity.P3, kind=Kind.REAL, cause="out_of_range", on_s=0, off_s=0,
            raises=lambda f: f.is_rejected or f.implausible,
            clears=lambda f: not f.is_rejected and not f.implausible,
        ),
    )  # fmt: skip


def maker_code(codes: Mapping[str, Code]) -> tuple[FaultRule[Facts], ...]:
    """R26: the maker's own code, weighed by ``codes`` (per type; the same number means different things [S33])."""
    return (
        FaultRule(
            key="R26", family="code", severity=UNKNOWN_CODE.severity, kind=UNKNOWN_CODE.kind, on_s=5, off_s=30, min_samples=2,
            raises=lambda f: f.has_code, clears=lambda f: not f.has_code, evidence=("code",),
            weigh=lambda f: codes.get(f.code, UNKNOWN_CODE)[:3],
        ),
    )  # fmt: skip
