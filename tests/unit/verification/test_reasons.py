"""Every reason that the judge can give has a form, and the form has exactly the figures that the judge gives."""

from __future__ import annotations

import ast
import dataclasses
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.catalogue.plans import PLANS
from domain.desk.evidence import verdict_body
from domain.verdicts import Reason
from domain.verification.judge import judge
from domain.verification.reasons import FORMS, in_english, listed, say
from tests.unit.verification.traces import SMM, readings, soymilk

DOMAIN = Path(__file__).parents[3] / "domain"
DONE_WHEN = {key for plan in PLANS.values() for key in plan.done_when}
"""Keys that the judge takes from the plan."""


def calls() -> Iterator[tuple[str, str, set[str]]]:
    """Where ``say`` is called, its key, the names of its figures."""
    for path in sorted(DOMAIN.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
                key = node.args[0]
                assert isinstance(key, ast.Constant), f"{path}:{node.lineno}: the key must be written out"
                yield f"{path.name}:{node.lineno}", str(key.value), {str(word.arg) for word in node.keywords}


def wanted(form: str) -> set[str]:
    return {name for _literal, name, _spec, _conversion in string.Formatter().parse(form) if name}


def test_every_call_gives_what_its_form_says() -> None:
    found = list(calls())
    assert len(found) > 100
    for where, key, figures in found:
        assert key in FORMS, where
        assert figures == wanted(FORMS[key]), where


def test_no_form_is_left_that_nobody_says() -> None:
    assert {key for _where, key, _figures in calls()} | DONE_WHEN == set(FORMS)
    assert all(wanted(FORMS[key]) == {"count"} for key in DONE_WHEN)


def test_reasons_are_put_together_and_said_in_english() -> None:
    three = listed([say("grinds", count="3"), say("fills", count="2"), say("cycles", count="1")])
    assert in_english(say("not_seen", what=three)) == "Not seen yet: grinds 3, fills 2, cycles 1"
    with pytest.raises(KeyError):
        in_english(Reason("never heard of"))
    with pytest.raises(KeyError):
        in_english(Reason("trips", {"count": "1"}))


@pytest.mark.parametrize("rows", [soymilk(), soymilk()[:60]])
def test_key_and_figures_stand_beside_the_english_text(rows: list[dict[str, object]]) -> None:
    verdict = judge(PLANS["soymilk:heating"], SMM, readings(rows))  # type: ignore[arg-type]
    assert verdict.reasons
    assert verdict.reasons == tuple(in_english(reason) for reason in verdict.said)
    body = verdict_body(verdict)
    for line, criterion in zip(body["criteria"], verdict.criteria, strict=True):
        assert criterion.said is not None
        assert (line["reason"], line["said"]) == (in_english(criterion.said), dataclasses.asdict(criterion.said))


def test_too_few_samples_says_what_is_needed() -> None:
    verdict = judge(PLANS["soymilk:heating"], SMM, readings(soymilk()[:40]))
    assert "Too few samples of power_w: 36, at least 80 needed" in verdict.reasons
