"""Rules become programs of comparisons, and say the same; what cannot become one is refused."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Mapping
from math import nan
from typing import Any

import pytest

from domain.catalogue.facts import Facts
from domain.catalogue.fault_rule import FaultRule
from domain.catalogue.model import ModelCard
from domain.catalogue.registry import EQUIPMENT, card_of
from domain.catalogue.rules import FACTS, RULES
from domain.detection.baseline import Baseline
from gateway.core.programs import Program, UntranslatableError, compiled, program, spec_of

CARDS = [card for equipment in EQUIPMENT.values() for card in equipment.cards.values()]
LEARNED = Baseline(pn_w={"heating": 5800.0}, filter_dp_pa=77.0)
SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">=": operator.ge, ">": operator.gt,
}  # fmt: skip


def holds(given: Program, figure: Callable[[str], float]) -> bool:
    """What the core does with a program."""
    to: bool | int = given if isinstance(given, bool) else 0
    while not isinstance(to, bool):
        assert not isinstance(given, bool)
        left, sign, right, yes, no = given[to]
        if isinstance(right, list):
            slot, how, by = right
            right = figure(slot) + by if how == "+" else figure(slot) * by
        to = yes if SIGNS[sign](figure(left), right) else no
    return to


class Figures:
    """Random facts: what a condition asks for is made up when it is asked for first, once."""

    def __init__(self, fresh: Facts, states: tuple[str, ...], border: list[float], rng: random.Random) -> None:
        self._fresh, self._states, self._border, self._rng = fresh, states, border, rng
        self._made: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name in self._fresh.CONSTANT:
            return getattr(self._fresh, name)
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Any:
        sample = getattr(self._fresh, name)
        if name == "state":
            return self._rng.choice([*self._states, ""])
        if sample is None:
            return self._rng.choice([True, False, None])
        if isinstance(sample, bool):
            return self._rng.random() < 0.5
        near = self._rng.choice(self._border) * self._rng.choice([0.0, 0.5, 0.999, 1.0, 1.001, 2.0])
        return int(near) if isinstance(sample, int) else self._rng.choice([near, near, near, nan])

    def slot(self, name: str) -> float:
        """As the core sees it."""
        value = getattr(self, name)
        if name == "state":
            return float(self._states.index(value)) if value else -1.0
        return nan if value is None else float(value)


def constants(given: Program) -> list[float]:
    tests = [] if isinstance(given, bool) else given
    return [test[2] for test in tests if isinstance(test[2], float)] or [1.0]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.key)
@pytest.mark.parametrize("baseline", [Baseline(), LEARNED], ids=["rated", "learned"])
def test_every_shipped_rule_translates_and_says_what_it_said(card: ModelCard, baseline: Baseline) -> None:
    states, rng = EQUIPMENT[card.type].states, random.Random(card.key)
    fresh = FACTS[card.type](card, baseline.reference())
    rows = {row["row"]: row for row in compiled(card, baseline)["rules"]}
    rules = [rule for rule in RULES[card.type] if rule.key != "R01"]
    assert list(rows) == [rule.row for rule in rules]
    for rule in rules:
        answers: dict[str, set[bool]] = {"when": set(), "raises": set(), "clears": set()}
        border = [number for name in answers for number in constants(rows[rule.row][name])]
        for _ in range(1500):
            figures = Figures(fresh, states, border, rng)
            asked = rule.when is None or rule.when(figures)
            conditions = (
                {"when": rule.when, "raises": rule.raises, "clears": rule.clears} if asked else {"when": rule.when}
            )
            for name, condition in conditions.items():
                said = condition is None or condition(figures)
                answers[name].add(said)
                assert holds(rows[rule.row][name], figures.slot) is said, (rule.row, name)
        if answers["when"] != {False}:
            assert answers["raises"] == answers["clears"] == {True, False}, rule.row


def test_a_spec_names_causes_needs_and_durations() -> None:
    rows = compiled(card_of("soymilk", "SMM-25"))["rules"]
    names = [row["row"] for row in rows]
    stall = rows[names.index("R14/P2/stall")]
    assert {names[root] for root in stall["roots"]} == {
        "R02/P1/danger", "R02/P3/band", "R07/P3/no_water", "R28/P3/lid_open",
    }  # fmt: skip
    assert (stall["needs"], stall["on_ms"], stall["off_ms"], stall["min_samples"]) == (["power_w"], 2000, 30_000, 3)
    assert not stall["guarded"]
    assert [row["row"] for row in rows if row["weighed"]] == ["R26/P3/"]


def translated(condition: Callable[[Any], bool]) -> Program:
    card = card_of("soymilk", "SMM-60")
    return program(condition, FACTS["soymilk"](card, {}), EQUIPMENT["soymilk"].states)


def _is_hot(f: Any, limit: float) -> bool:
    """One expression, with an argument."""
    return f.temp > limit


def _is_long(f: Any) -> bool:
    limit = 3.0
    return bool(f.temp > limit)


def test_what_the_nameplate_decides_is_decided_already() -> None:
    limit = 7.0
    assert translated(lambda f: f.card.phases == 3 and f.temp > 2 * limit) == [["temp", ">", 14.0, True, False]]
    assert translated(lambda f: f.card.phases == 1 and f.temp > limit) is False
    assert translated(lambda f: f.temp > limit or "heating" not in f.reference) is True
    assert translated(lambda f: _is_hot(f, max(1.0, 90.0))) == [["temp", ">", 90.0, True, False]]
    assert translated(lambda f: f.temp > -1.0) == [["temp", ">", -1.0, True, False]]
    assert translated(lambda f: f.temp <= 0.9 * f.pn) == [["temp", "<=", ["pn", "*", 0.9], True, False]]
    assert translated(lambda f: f.state in ("off", "standby")) == [
        ["state", "==", 1.0, True, 1], ["state", "==", 2.0, True, False],
    ]  # fmt: skip
    assert translated(lambda f: f.lid is not None) == [["lid", "!=", ["lid", "+", 0.0], False, True]]


def test_of_two_lambdas_in_one_line_each_is_itself() -> None:
    first, second = lambda f: f.temp > 1.0, lambda f: f.temp > 2.0
    assert translated(first) == [["temp", ">", 1.0, True, False]]
    assert translated(second) == [["temp", ">", 2.0, True, False]]


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        (_is_long, "is not one expression"),
        (lambda f: f.temp > f.pn + f.power, "`f.pn + f.power` has no form"),
        (lambda f: f.temp / 2 > 1, "`f.temp / 2` has no form"),
        (lambda f: f.nothing > 1, "the facts have no nothing"),
        (lambda f: f.temp, "`f.temp` is no yes or no"),
        (lambda f: f.lid, "`f.lid` is no yes or no"),
        (lambda f: f.lid < 1, "compares in a way"),
        (lambda f: f.code == "E4", "compares in a way"),
        (lambda f: f.state == "asleep", "a state 'asleep' that the type does not have"),
        (lambda f: f.temp > float("inf"), "has no form"),
        (lambda f: f.temp > nan, "no finite number"),
        (lambda f: f.temp > f.reference["filter_dp_pa"], "what looks constant fails: KeyError"),
        (lambda f: f.num("temp_c") > 3, "has no form"),
        (len, "no function written in Python"),
        (eval("lambda f: f.temp > 1", {"__name__": "nowhere"}), "no source"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_what_has_no_form_is_refused_with_its_reason(condition: Callable[[Any], bool], why: str) -> None:
    with pytest.raises(
        UntranslatableError, match="(?s)" + why.replace("(", r"\(").replace("+", r"\+").replace("[", r"\[")
    ):
        translated(condition)


def test_one_rule_without_a_form_leaves_its_type_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    odd: FaultRule[Any] = FaultRule(
        key="R99", family="x", severity=RULES["soymilk"][0].severity, kind=RULES["soymilk"][0].kind, cause="odd", on_s=1, off_s=1,
        raises=lambda f: f.temp, clears=lambda f: True,
    )  # fmt: skip
    monkeypatch.setattr("gateway.core.programs.RULES", {"soymilk": (*RULES["soymilk"], odd)})
    with pytest.raises(UntranslatableError, match=r"R99/P\d/odd: `f.temp` is no yes or no"):
        compiled(card_of("soymilk", "SMM-25"))
    assert spec_of(card_of("soymilk", "SMM-25")) is None
