"""Fault rules of fresh-air units (equipment.md §6, families §7.4, rulings §7.5); data. Closed to the simulator.

Marks: S# = source in equipment.md §12, EJ = engineering judgement. Rows of one key stand worst first.
"""

from __future__ import annotations

from domain.catalogue.common_rules import COMMON_CODES, Code, bounds, maker_code, voltage
from domain.catalogue.fault_rule import FaultRule
from domain.catalogue.freshair.efficiency import STRICT_CIN
from domain.catalogue.freshair.facts import FreshairFacts
from domain.findings import Kind, Severity

P1, P2, P3, P4 = Severity
REAL, FALSE = Kind.REAL, Kind.FALSE
Row = FaultRule[FreshairFacts]

CODES: dict[str, Code] = {
    **COMMON_CODES,
    # MIoT units [S33]: 1 and 2 name the motor on most models, 3 a sensor, 4 a filter that is not in
    "1": Code(P2, REAL, "fan", "fan"),
    "2": Code(P2, REAL, "fan", "fan"),
    "3": Code(P3, REAL, "sensor", "sensor"),
    "4": Code(P3, FALSE, "filter_missing", "filter"),
}


def _poor_filter(f: FreshairFacts) -> tuple[Severity, Kind, str]:
    """A filter that is due is an operating matter (A-F2); one with hardly any resistance was not fitted (A-F6)."""
    if f.eta < 0.3 and f.dp < 0.3 * f.card.dp_clean_pa:
        return P3, FALSE, "filter_missing"
    if f.filter_life <= 20.0:
        return P3, FALSE, "filter_due"
    return P3, REAL, "leak"


RULES: tuple[Row, ...] = (
    *voltage(),  # R02 [S9], [S1 E5]
    Row(  # R15 fan commanded on, not proven: GL36 [S20]; by speed or flow, else by power (A-T1)
        key="R15", family="fan", severity=P2, kind=REAL, cause="fan_dead", on_s=60, off_s=10, guarded=False,
        when=lambda f: f.fan_wanted and (f.spin == f.spin or f.draw == f.draw), evidence=("spin", "draw"),
        raises=lambda f: f.spin < 0.10 if f.spin == f.spin else f.draw < 0.20,
        clears=lambda f: f.fan_on,
    ),
    Row(  # R18 filter clogged: 2× initial for HEPA [S24], or the card's final pressure
        key="R18", family="filter", severity=P3, kind=FALSE, cause="clogged", needs=("filter_dp_pa",), on_s=7200, off_s=600,
        when=lambda f: f.running and f.card.dp_clean_pa > 0, suppressed_by=("R15",), evidence=("dp",),
        raises=lambda f: f.dp >= 2.0 * f.card.dp_clean_pa or (f.card.dp_final_pa > 0 and f.dp >= f.card.dp_final_pa),
        clears=lambda f: f.dp <= 1.2 * f.card.dp_clean_pa,
    ),
    Row(  # R18 filter loading: +20 % over its own 60 days [S21]
        key="R18", family="filter", severity=P4, kind=FALSE, cause="loading", needs=("filter_dp_pa",), on_s=7200, off_s=600,
        when=lambda f: f.running and "filter_dp_pa" in f.reference, suppressed_by=("R15",), evidence=("dp",),
        raises=lambda f: f.dp > 1.2 * f.reference["filter_dp_pa"],
        clears=lambda f: f.dp <= max(1.05 * f.reference["filter_dp_pa"], 1.2 * f.card.dp_clean_pa),
    ),
    Row(  # R20 the filter lets too much through: §4
        key="R20", family="filter", severity=P3, kind=REAL, cause="leak", needs=("pm25_in_ugm3", "pm25_out_ugm3"),
        on_s=1800, off_s=600, when=lambda f: f.pm_ready and f.c_in >= STRICT_CIN and f.eta == f.eta, suppressed_by=("R15",),
        evidence=("eta", "eta_low", "c_in", "c_out"), weigh=_poor_filter,
        raises=lambda f: f.eta < f.eta_low,
        clears=lambda f: f.eta >= f.eta_low + 0.03,
    ),
    Row(  # R27 dirtier behind the filter than before it: EJ (A-T8: sensors swapped, bypass, mould)
        key="R27", family="filter", severity=P3, kind=REAL, cause="dirtier_behind", needs=("pm25_in_ugm3", "pm25_out_ugm3"),
        on_s=1800, off_s=600, when=lambda f: f.pm_ready and f.card.pm25_out_at == "supply" and f.c_in == f.c_in,
        suppressed_by=("R15",), evidence=("c_in", "c_out"),
        raises=lambda f: f.dirtier_behind,
        clears=lambda f: f.c_out <= f.c_in + 5.0,
    ),
    Row(  # R21 a PM2.5 sensor stands still while its partner moves: S23, A-T6
        key="R21", family="sensor", severity=P3, kind=REAL, cause="pm25_in", needs=("pm25_in_ugm3", "pm25_out_ugm3"),
        on_s=0, off_s=0, min_samples=6, when=lambda f: f.pm_ready,
        raises=lambda f: f.stuck_before,
        clears=lambda f: not f.stuck_before,
    ),
    Row(
        key="R21", family="sensor", severity=P3, kind=REAL, cause="pm25_out", needs=("pm25_in_ugm3", "pm25_out_ugm3"),
        on_s=0, off_s=0, min_samples=6, when=lambda f: f.pm_ready,
        raises=lambda f: f.stuck_behind,
        clears=lambda f: not f.stuck_behind,
    ),
    *bounds(),  # R22
    *maker_code(CODES),  # R26
)  # fmt: skip
