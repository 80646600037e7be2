"""PLANS: the test-run plans of every equipment type, and the codes of a visit's record. Closed to the simulator."""

from __future__ import annotations

from dataclasses import replace

from domain.catalogue.freshair import plans as freshair
from domain.catalogue.model import ModelCard
from domain.catalogue.plan_model import Code, Criterion, Entry, TestPlan, plan_from_json, plan_to_json
from domain.catalogue.soymilk import plans as soymilk
from domain.errors import InvalidError, NotFoundError

__all__ = [
    "CAUSES", "FAMILY_PLAN", "FAULTS", "MEASURES", "PLANS", "Code", "Criterion", "Entry", "TestPlan",
    "named_plan", "plan_for", "plan_from_json", "plan_to_json",
]  # fmt: skip

PLANS: dict[str, TestPlan] = {plan.key: plan for plan in (*soymilk.PLANS, *freshair.PLANS)}
MEASURES: dict[str, Code] = {code.key: code for code in (*soymilk.MEASURES, *freshair.MEASURES)}
"""What a technician did; its ``plan`` is the test run that proves it."""
FAULTS: dict[str, Code] = {code.key: code for code in (*soymilk.FAULTS, *freshair.FAULTS)}
CAUSES: dict[str, Code] = {code.key: code for code in (*soymilk.CAUSES, *freshair.CAUSES)}
FAMILY_PLAN: dict[tuple[str, str], str] = {
    (plan.partition(":")[0], family): plan
    for defaults in (soymilk.FAMILY_PLAN, freshair.FAMILY_PLAN)
    for family, plan in defaults.items()
}
"""(equipment type, fault family) → key of the default plan (equipment.md §7.4)."""

REPEAT_VISITS = 2
REPEAT_MIN_ACTIVE_S = 3600.0
LARGE_FAN_W, LARGE_FAN_MIN_ACTIVE_S = 500.0, 7200.0  # GB 50243, RV


def named_plan(key: str) -> TestPlan:
    """The plan of that key; raises NotFoundError naming what there is."""
    if key not in PLANS:
        raise NotFoundError("No plan {key}; there are {known}", key=key, known=", ".join(PLANS))
    return PLANS[key]


def plan_for(
    equipment_type: str,
    family: str | None,
    measure: str | None,
    card: ModelCard,
    repeat_visits: int = 0,
    *,
    intermittent: bool = False,
) -> TestPlan:
    """The test run that proves a repair (equipment.md §7.3, §7.4).

    The measure's plan, or the family's default without a measure; the longer of the two when both apply. Fans above 500 W
    run 7200 s; an intermittent fault, or two and more repeat visits in 30 days, runs 3600 s and passes on probation.
    Raises InvalidError for a measure that is not one of this equipment type.
    """
    keys = []
    if measure:
        if measure not in MEASURES or MEASURES[measure].type != equipment_type:
            raise InvalidError("No measure {measure} for this equipment", field="measure", measure=measure)
        keys.append(MEASURES[measure].plan)
    if family and (equipment_type, family) in FAMILY_PLAN:
        keys.append(FAMILY_PLAN[equipment_type, family])
    plan = max(
        (named_plan(key) for key in keys or [f"{equipment_type}:operator"]), key=lambda p: (p.min_active_s, p.cap_s)
    )
    if plan.key == "freshair:fan" and max(card.p_fan_w, default=0.0) > LARGE_FAN_W:
        plan = replace(plan, min_active_s=LARGE_FAN_MIN_ACTIVE_S)
    if intermittent or repeat_visits >= REPEAT_VISITS:
        longer = max(plan.min_active_s, REPEAT_MIN_ACTIVE_S)
        plan = replace(plan, min_active_s=longer, cap_s=max(plan.cap_s, 2 * REPEAT_MIN_ACTIVE_S), probation=True)
    return plan
