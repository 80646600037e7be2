"""``brewair adapters``: the conventions that the gateway understands, and what becomes of a payload."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from domain.catalogue.registry import EQUIPMENT
from domain.clock import SystemClock, from_ms, to_ms
from domain.errors import InvalidError
from domain.readings import Reading
from gateway.adapters.registry import ADAPTERS
from gateway.ingest.decode import Decoder
from gateway.messages import Decoded, Message, Quarantined, Registry, Unit

app = typer.Typer(help="Payload conventions: list them, try one on a payload.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]
TRIAL = "TRIAL"
"""Serial number of the machine that a tried payload is bound to."""


@app.command("list")
def show_list(as_json: AsJson = False) -> None:
    """Conventions, what the gateway subscribes to for each, and an example of a topic."""
    for convention, line in ADAPTERS.lines.items():
        adapter = ADAPTERS[convention]
        name = convention or "native"
        if as_json:
            _say({"convention": name, "filters": list(adapter.filters), "example": line.topic})
        else:
            typer.echo(f"{name:<12} {line.topic:<50} {' '.join(adapter.filters)}")
    if as_json:
        _say({"summary": True, "conventions": len(ADAPTERS)})


@app.command("try")
def attempt(
    adapter: Annotated[str, typer.Option(help="A convention of the list.")],
    topic: Annotated[str, typer.Option(help="The message's topic; the list's example without it.")] = "",
    zone: Annotated[str, typer.Option(help="Time zone of the machine.")] = "Asia/Shanghai",
    equipment_type: Annotated[
        str, typer.Option("--type", help="Equipment type; without it the one that fits best.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show what a payload on standard input becomes: readings, unknown keys, refused values, or why it is quarantined."""
    convention = "" if adapter == "native" else adapter
    if convention not in ADAPTERS:
        known = ", ".join(name or "native" for name in ADAPTERS)
        raise InvalidError("There is no adapter {name}; there are {known}", name=adapter, known=known)
    if equipment_type and equipment_type not in EQUIPMENT:
        raise InvalidError("There is no equipment type {type}", type=equipment_type)
    try:
        local = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise InvalidError("'{text}' is not a time zone such as Asia/Shanghai", field="zone", text=zone) from None
    line = ADAPTERS.lines[convention]
    message = Message(topic or line.topic, typer.get_binary_stream("stdin").read(), to_ms(SystemClock().now()))
    levels = message.topic.split("/")
    name = "/".join(levels[level] for level in line.name if level < len(levels))
    found, strangers, kind = _best(
        convention, name, message, local, [equipment_type] if equipment_type else list(EQUIPMENT)
    )
    summary = {
        "summary": True, "adapter": adapter, "topic": message.topic, "bound_by": name, "type": kind,
        "readings": sum(isinstance(one, Reading) for one in found),
        "quarantined": sum(isinstance(one, Quarantined) for one in found), "unknown": strangers,
    }  # fmt: skip
    for one in found:
        if as_json:
            _say(_facts(one))
        else:
            for text in _lines(one):
                typer.echo(text)
    if as_json:
        _say(summary)
        return
    if not found:
        typer.echo("nothing that the gateway keeps")
    if strangers:
        typer.echo("unknown     " + ", ".join(strangers))
    typer.echo(f"bound by    {name or 'its own topic'}" + (f", as {kind}" if convention else ""))


def _best(
    convention: str, name: str, message: Message, zone: ZoneInfo, types: Sequence[str]
) -> tuple[list[Decoded], dict[str, int], str]:
    """The result, the unknown keys and the type under which most values are understood."""
    outcomes = []
    for kind in types:
        unit = Unit(TRIAL, kind, "", convention=convention, topic=name, zone=zone)
        decoder = Decoder(ADAPTERS.values(), Registry.of([unit] if convention else []), known_only=False)
        found = decoder.decode(message)
        outcomes.append((found, dict(decoder.strangers), kind))
    return max(outcomes, key=lambda outcome: sum(len(one.values) for one in outcome[0] if isinstance(one, Reading)))


def _lines(one: Decoded) -> list[str]:
    if isinstance(one, Reading):
        doubted = (
            f" (the device's clock said {_clock(one.device_ts)}, which is not believed)"
            if one.device_ts is not None
            else ""
        )
        lines = [f"reading     {_clock(one.ts)}{doubted}"]
        lines += [f"  {channel:<20} {value}" for channel, value in one.values.items()]
        return lines + [f"  {channel:<20} {value} refused: out of range" for channel, value in one.rejected.items()]
    if isinstance(one, Quarantined):
        return [f"quarantine  {one.reason.value}: {one.explanation}"]
    return [f"{type(one).__name__.lower():<11} " + ", ".join(f"{key} {value}" for key, value in asdict(one).items())]


def _clock(ms: int) -> str:
    try:
        return f"{from_ms(ms):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return f"{ms} ms"


def _facts(one: Decoded) -> dict[str, Any]:
    if isinstance(one, Quarantined):
        return {"kind": "quarantined", "reason": one.reason.value, "explanation": one.explanation, "part": one.part}
    if isinstance(one, Reading):
        return {
            "kind": "reading", "ts": one.ts, "device_ts": one.device_ts, "values": dict(one.values),
            "rejected": dict(one.rejected), "backfill": one.backfill,
        }  # fmt: skip
    return {"kind": type(one).__name__.lower(), **asdict(one)}


def _say(line: dict[str, Any]) -> None:
    typer.echo(json.dumps(line, ensure_ascii=False))
