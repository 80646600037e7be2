"""``brewair detect``: the findings and the states of given samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import Annotated

import typer

from cli.samples import given_card, read_samples
from domain.catalogue.model import ModelCard
from domain.catalogue.rules import RULE_LABELS
from domain.clock import from_ms
from domain.detection.engine import SILENT_MS, Detector
from domain.findings import Finding
from domain.readings import Reading

app = typer.Typer()


@dataclass(slots=True)
class Span:
    """A stay in one state; times are device times in ms."""

    state: str
    start: int
    end: int


@app.callback(invoke_without_command=True)
def detect(
    equipment_type: Annotated[str, typer.Option("--type", help="soymilk or freshair.")],
    samples: Annotated[Path, typer.Option(help="CSV file: ts (ms) and channels by name.")],
    model: Annotated[str | None, typer.Option(help="Model key of the catalogue.")] = None,
    card: Annotated[Path | None, typer.Option(help="TOML file with a model card.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Print what the fault rules find in a file of samples, and the machine's states."""
    nameplate = given_card(equipment_type, model, card)
    found, spans = examine(read_samples(samples, equipment_type), nameplate)
    if as_json:
        typer.echo(json.dumps(_summary(found, spans)))
        return
    for finding in found:
        until = "still open" if finding.cleared_at is None else f"cleared {_clock(finding.cleared_at)}"
        figures = ", ".join(f"{name} {value}" for name, value in finding.evidence.items())
        typer.echo(
            f"{finding.rule} P{finding.severity:d} {finding.kind} {RULE_LABELS[finding.rule]} ({finding.cause or '?'}): "
            f"raised {_clock(finding.raised_at)}, {until}; {figures}"
        )
    if not found:
        typer.echo("No findings.")
    for span in spans:
        typer.echo(f"{_clock(span.start)} … {_clock(span.end)}  {span.state}")


def examine(readings: Sequence[Reading], card: ModelCard) -> tuple[list[Finding], list[Span]]:
    """Findings in the order of their raising, each in its last form, and the states of ``readings`` in order of time.

    Silence is judged inside the gaps between samples; what comes after the last sample is not known.
    """
    ordered = sorted(readings, key=lambda r: (r.ts, r.boot or "", -1 if r.seq is None else r.seq))
    detector = Detector(card, ordered[0].serial if ordered else "sample")
    gaps = [b.ts - a.ts for a, b in pairwise(ordered) if b.ts > a.ts]
    if gaps:
        detector.interval_s = median_low(gaps) / 1000
    patience = max(3 * median_low(gaps), SILENT_MS) if gaps else SILENT_MS
    episodes: dict[str, Finding] = {}
    spans: list[Span] = []
    for reading in ordered:
        for finding in (*detector.tick(reading.ts, peers_online=None), *detector.fold(reading)):
            episodes[finding.episode_key] = finding
        if spans and reading.ts - spans[-1].end > patience:
            spans.append(Span("offline", spans[-1].end, reading.ts))
        elif spans:
            spans[-1].end = reading.ts
        if not spans or spans[-1].state != detector.state:
            spans.append(Span(detector.state, reading.ts, reading.ts))
    return list(episodes.values()), spans


def _summary(found: Sequence[Finding], spans: Sequence[Span]) -> dict[str, object]:
    return {
        "summary": True,
        "findings": [
            {
                "rule": f.rule, "family": f.family, "severity": f"P{f.severity:d}", "raised_at": f.raised_at,
                "cleared_at": f.cleared_at, "kind": str(f.kind), "cause": f.cause, "evidence": dict(f.evidence),
            }
            for f in found
        ],
        "states": [{"state": span.state, "from": span.start, "to": span.end} for span in spans],
    }  # fmt: skip


def _clock(ms: int) -> str:
    return from_ms(ms).strftime("%Y-%m-%d %H:%M:%S")
