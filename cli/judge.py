"""``brewair judge``: recompute the verdict of a test run from given samples."""

from __future__ import annotations

import json
from math import inf, isfinite
from pathlib import Path
from typing import Annotated

import typer

from cli.samples import given_card, read_samples
from domain.catalogue.model import ModelCard
from domain.catalogue.plans import TestPlan, named_plan
from domain.catalogue.registry import EQUIPMENT
from domain.catalogue.rules import RULE_LABELS
from domain.clock import from_ms
from domain.desk import evidence
from domain.desk.verification import card_of, judge_run, plan_of
from domain.errors import InvalidError
from domain.settings import load
from domain.store import schema
from domain.store.queries import tickets as query
from domain.store.session import Sessions, open_engine
from domain.verdicts import CriterionResult, Verdict
from domain.verification.judge import judge as judge_samples

app = typer.Typer()

_FLAGS = {"true": True, "yes": True, "false": False, "no": False}


@app.callback(invoke_without_command=True)
def judge(
    plan: Annotated[str | None, typer.Option(help="Plan key, such as soymilk:heating.")] = None,
    samples: Annotated[Path | None, typer.Option(help="CSV file: ts (ms) and channels by name.")] = None,
    run: Annotated[int | None, typer.Option(help="Id of a stored test run, judged again from its evidence.")] = None,
    model: Annotated[str | None, typer.Option(help="Model key of the catalogue; default: the type's first.")] = None,
    card: Annotated[Path | None, typer.Option(help="TOML file with a model card.")] = None,
    entry: Annotated[
        list[str] | None, typer.Option(help="What the technician entered: name=value; may be repeated.")
    ] = None,
    target_l: Annotated[
        float | None, typer.Option(help="Batch volume in litres, where the machine reports none.")
    ] = None,
    original_rule: Annotated[
        str | None, typer.Option(help="Rule of the finding that was repaired, such as R04.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Print the verdict on a file of samples, or on a stored run's own evidence, criterion by criterion."""
    if run is not None:
        if plan or samples:
            raise InvalidError("Give either --run or --plan with --samples", field="run")
        _again(run, as_json)
        return
    if plan is None or samples is None:
        raise InvalidError("Give --plan and --samples, or --run", field="plan")
    wanted = named_plan(plan)
    nameplate = _card(wanted, model, card)
    if target_l is not None and not 0 < target_l < inf:
        raise InvalidError("--target-l must be a volume in litres, not {given}", field="target_l", given=target_l)
    if original_rule is not None and original_rule not in RULE_LABELS:
        raise InvalidError("No rule {rule}; there are {known}", rule=original_rule, known=", ".join(RULE_LABELS))
    verdict = judge_samples(
        wanted, nameplate, read_samples(samples, wanted.type), original_rule=original_rule, target_l=target_l,
        entries=dict(_entry(wanted, text) for text in entry or ()),
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(summary(verdict), ensure_ascii=False))
        return
    _print(wanted, nameplate, verdict)


def _again(run_id: int, as_json: bool) -> None:
    """Judge a stored run again from its evidence, by the plan and card sealed with it, and compare the verdicts."""
    engine = open_engine(load().database_url)
    try:
        schema.upgrade(engine)
        with Sessions(engine).read() as session:
            stored = query.run(session, run_id)
            sealed = query.verdict(session, run_id)
            if sealed is not None and not evidence.intact(sealed):
                raise InvalidError("The evidence of run {id} is not what was sealed", id=run_id)
            verdict = judge_run(session, stored, ended=sealed is not None)
            same = sealed is None or sealed.outcome == verdict.outcome
            if as_json:
                shown = {"run": run_id, "sealed": sealed.outcome if sealed else None, "same": same}
                typer.echo(json.dumps({**summary(verdict), **shown}, ensure_ascii=False))
            else:
                typer.echo(f"run {run_id}: sealed as {sealed.outcome if sealed else 'nothing yet'}")
                terms = evidence.terms(stored, sealed)
                _print(plan_of(terms), card_of(terms), verdict)
    finally:
        engine.dispose()
    if not same:
        raise typer.Exit(1)


def summary(verdict: Verdict) -> dict[str, object]:
    """The JSON object of ``brewair judge --json`` (wire.md)."""
    return {
        "summary": True,
        "verdict": str(verdict.outcome),
        "decided_at": verdict.decided_at,
        "net_active_s": verdict.net_active_s,
        "min_active_s": verdict.min_active_s,
        "coverage": round(verdict.coverage, 4),
        "criteria": [
            {
                "key": c.key, "state": str(c.state), "value": c.value, "unit": c.unit, "low": c.low, "high": c.high,
                "samples": c.samples, "reason": c.reason, "required": c.required,
            }
            for c in verdict.criteria
        ],
        "reasons": list(verdict.reasons),
        "probation": verdict.probation,
    }  # fmt: skip


def _card(plan: TestPlan, model: str | None, card: Path | None) -> ModelCard:
    if model is None and card is None:
        known = EQUIPMENT[plan.type].cards
        first = next(iter(known.values()))
        typer.echo(
            f"brewair: no --model or --card given, judged as {first.key}; there are {', '.join(known)}", err=True
        )
        return first
    return given_card(plan.type, model, card)


def _entry(plan: TestPlan, text: str) -> tuple[str, float | bool]:
    name, _, given = (part.strip() for part in text.partition("="))
    known = {entry.key: entry for entry in plan.entries}
    if name not in known:
        names = ", ".join(known) or "none"
        raise InvalidError("{plan} has no entry {name}; its entries: {known}", plan=plan.key, name=name, known=names)
    if given.lower() in _FLAGS:
        return name, _FLAGS[given.lower()]
    try:
        number = float(given)
    except ValueError:
        number = inf
    if not isfinite(number):
        raise InvalidError("--entry {name} must be a number, true or false, not {given}", name=name, given=given)
    return name, number if known[name].numeric else number != 0.0


def _print(plan: TestPlan, card: ModelCard, verdict: Verdict) -> None:
    names = {c.key: c.name_en for c in plan.criteria}
    decided = "" if verdict.decided_at is None else f" at {from_ms(verdict.decided_at):%Y-%m-%d %H:%M:%S} UTC"
    typer.echo(
        f"{plan.key} on {card.key}: {verdict.outcome.upper()}{decided}"
        + (", on probation" if verdict.probation else "")
    )
    typer.echo(
        f"net active {verdict.net_active_s:.0f} s of {verdict.min_active_s:.0f} s, coverage {verdict.coverage:.0%}"
    )
    for reason in verdict.reasons:
        typer.echo(f"  {reason}")
    for c in verdict.criteria:
        needed = "required" if c.required else "optional"
        typer.echo(f"{names[c.key]:26} {c.state:15} {needed:9} {_figure(c):>28} {c.samples:5d}  {c.reason}")


def _figure(result: CriterionResult) -> str:
    if result.value is None:
        return ""
    limits = "…".join("" if limit is None else f"{limit:g}" for limit in (result.low, result.high))
    return f"{result.value:.4g} {result.unit}" + (f" ({limits})" if limits != "…" else "")
