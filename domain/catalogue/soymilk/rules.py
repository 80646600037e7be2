"""Fault rules of soy-milk machines (equipment.md §6, families §7.4, rulings §7.5); data. Closed to the simulator.

Marks: S# = source in equipment.md §12, EJ = engineering judgement. Rows of one key stand worst first.
"""

from __future__ import annotations

from domain.catalogue.common_rules import COMMON_CODES, Code, bounds, maker_code, voltage
from domain.catalogue.fault_rule import FaultRule
from domain.catalogue.soymilk.facts import SoymilkFacts
from domain.findings import Kind, Severity

P1, P2, P3, P4 = Severity
REAL, FALSE = Kind.REAL, Kind.FALSE
Row = FaultRule[SoymilkFacts]

CODES: dict[str, Code] = {
    **COMMON_CODES,
    # vocabulary of household machines [S1]; E2, E3, E9 are operating errors
    "E2": Code(P4, FALSE, "hot_start"),
    "E3": Code(P3, FALSE, "overflow", "overflow"),
    "E4": Code(P2, REAL, "heating_timeout", "heating"),
    "E5": Code(P2, FALSE, "supply_voltage", "supply"),
    "E6": Code(P2, REAL, "zero_cross"),
    "E7": Code(P2, REAL, "board_communication"),
    "E8": Code(P2, REAL, "temperature_probe", "sensor"),
    "E9": Code(P3, FALSE, "overfill", "overflow"),
}


def _heats(f: SoymilkFacts) -> bool:
    """In heating, with the heater on: what draws less than a tenth is R04's."""
    return f.state == "heating" and f.heater_on is not False and f.pn >= 0.10 * f.card.p_heat_w > 0


RULES: tuple[Row, ...] = (
    *voltage(),  # R02 [S9], [S1 E5]
    Row(  # R07 no water: EJ
        key="R07", family="water", severity=P3, kind=FALSE, cause="no_water", needs=("water_flow_lpm",),
        when=lambda f: f.filling, on_s=20, off_s=10, evidence=("flow",),
        raises=lambda f: f.flow < max(0.3, 0.3 * f.card.fill_lpm_min),
        clears=lambda f: f.flow > max(0.3, 0.5 * f.card.fill_lpm_min),
    ),
    Row(  # R28 lid open while a cycle is wanted: EJ (S-F3, then S-T8)
        key="R28", family="lid", severity=P3, kind=FALSE, cause="lid_open", needs=("lid_open",), on_s=600, off_s=10,
        raises=lambda f: f.lid is True and f.cycle_wanted,
        clears=lambda f: f.lid is False,
    ),
    Row(  # R04 no heat though it is wanted: EJ
        key="R04", family="heating", severity=P2, kind=REAL, cause="no_heat", needs=("power_w",), on_s=30, off_s=30,
        suppressed_by=("R02", "R07", "R28"), evidence=("pn",),
        when=lambda f: f.card.p_heat_w > 0 and (f.heater_commanded or not f.ever_reported),
        # the second form, where no state is reported: idle 300 s (EJ) after a fill and a grind
        raises=lambda f: f.pn < 0.10 * f.card.p_heat_w and (f.heater_commanded or f.heat_due_ms >= 270_000),
        clears=lambda f: f.pn > 0.85 * f.card.p_heat_w,
    ),
    Row(  # R03 an element lost: threshold half-way between healthy and one element open [S15]
        key="R03", family="heating", severity=P2, kind=REAL, cause="element_lost", needs=("power_w",), on_s=60, off_s=60,
        suppressed_by=("R02",), when=_heats, evidence=("pn", "heat_ref_w"),
        raises=lambda f: f.pn < f.element_lost_below * f.heat_ref_w,
        clears=lambda f: f.pn > 0.93 * f.heat_ref_w,
    ),
    Row(  # R03 weak heater: ±5 % is the real spread [S43]
        key="R03", family="heating", severity=P3, kind=REAL, cause="weak", needs=("power_w",), on_s=60, off_s=60,
        suppressed_by=("R02",), when=_heats, evidence=("pn", "heat_ref_w"),
        raises=lambda f: f.pn < 0.90 * f.heat_ref_w,
        clears=lambda f: f.pn > 0.93 * f.heat_ref_w,
    ),
    Row(  # R06 an element or a line open unbalances the bank [S53], [S15]
        key="R06", family="heating", severity=P2, kind=REAL, cause="phase_lost", on_s=60, off_s=60, suppressed_by=("R02",),
        needs=("current_a_a", "current_a_b", "current_a_c"), evidence=("imbalance",),
        when=lambda f: f.card.phases == 3 and f.state == "heating" and f.heater_on is not False,
        raises=lambda f: f.imbalance > 0.15,
        clears=lambda f: f.imbalance < 0.10,
    ),
    Row(  # R08 leak: EJ
        key="R08", family="water", severity=P1, kind=REAL, cause="leak", needs=("water_flow_lpm",), on_s=300, off_s=60,
        guarded=False, evidence=("flow",),
        raises=lambda f: f.idle and f.flow > 0.1,
        clears=lambda f: f.idle and f.flow <= 0.1,
    ),
    Row(  # R11 false boil: food safety [S3,S4,S6]; an event, level-held until the next good batch
        key="R11", family="heating", severity=P1, kind=REAL, cause="false_boil", on_s=0, off_s=0, min_samples=1,
        guarded=False, evidence=("hold_s",),
        raises=lambda f: f.bad_batch,
        clears=lambda f: not f.bad_batch,
    ),
    Row(  # R12 served from below 60 °C [S8]
        key="R12", family="heating", severity=P2, kind=REAL, cause="too_cold", needs=("temp_c",), on_s=600, off_s=60,
        when=lambda f: f.state == "keep_warm", evidence=("temp",),
        raises=lambda f: f.temp < 60.0,
        clears=lambda f: f.temp > 63.0,
    ),
    Row(  # R13 overflow: EJ, vocabulary [S1,S2]. Wet while cold = the electrode (S-T6)
        key="R13", family="overflow", severity=P3, kind=REAL, cause="electrode", needs=("overflow_electrode",), on_s=0, off_s=60,
        min_samples=1, evidence=("temp",),
        raises=lambda f: f.overflow is True and f.temp < 60.0,
        clears=lambda f: f.overflow is False,
    ),
    Row(  # R13 overflow: twice in a batch = too much in it (S-F4)
        key="R13", family="overflow", severity=P3, kind=FALSE, cause="overfill", needs=("overflow_electrode",), on_s=0, off_s=60,
        min_samples=1, evidence=("trips",),
        raises=lambda f: f.trips >= 2,
        clears=lambda f: f.overflow is False and f.trips < 2,
    ),
    Row(  # R14 stalled: 2 s after 1 s of inrush [S16,S17,S19]; 'manual' clear: somebody freed it, seen as 30 s of grinding
        key="R14", family="motor", severity=P2, kind=REAL, cause="stall", needs=("power_w",), on_s=2, off_s=30, guarded=False,
        suppressed_by=("R02", "R07", "R28"), when=lambda f: f.motor_runs and f.card.p_motor_w > 0, evidence=("power",),
        raises=lambda f: f.power > 1.5 * f.card.p_motor_w,
        clears=lambda f: 0.25 * f.card.p_motor_w <= f.power <= 1.5 * f.card.p_motor_w,
    ),
    Row(  # R14 no load: accumulated 5 s [S16]
        key="R14", family="motor", severity=P2, kind=REAL, cause="no_load", needs=("power_w",), on_s=5, off_s=30, guarded=False,
        suppressed_by=("R02", "R07", "R28"), when=lambda f: f.motor_runs and f.card.p_motor_w > 0, evidence=("power",),
        raises=lambda f: f.power < 0.25 * f.card.p_motor_w,
        clears=lambda f: 0.25 * f.card.p_motor_w <= f.power <= 1.5 * f.card.p_motor_w,
    ),
    Row(  # R21 the probe shows one figure while the heater is on [S23]; S-T7: ±0.1 K for 10 min
        key="R21", family="sensor", severity=P3, kind=REAL, cause="temp_c", needs=("temp_c",), on_s=0, off_s=60, min_samples=6,
        when=lambda f: f.state == "heating", evidence=("temp",),
        raises=lambda f: f.flat_ms >= 600_000,
        clears=lambda f: f.flat_ms == 0,
    ),
    *bounds(),  # R22
    *maker_code(CODES),  # R26
)  # fmt: skip
