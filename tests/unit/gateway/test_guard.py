"""A record that kills the process is left out after two deaths; kills that hit anything else leave nothing out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from domain import wire
from domain.desk.actor import SHELL
from domain.desk.registry import save_machine
from gateway.ingest.guard import Guard
from gateway.ingest.spool import Chunk
from gateway.messages import Message
from gateway.samples import split
from tests.unit.gateway.plant import T0, Plant

DEADLY = 666.0


class Death(BaseException):
    """The process is gone: nothing catches it, nothing is tidied up."""


def live(
    path: Path, chunks: Sequence[Chunk], deadly: set[int] | None = None, killed_at: int | None = None
) -> list[int]:
    """One life over ``chunks``; gives the positions that were left out. Raises Death."""
    guard = Guard(path)
    out: list[int] = []
    for chunk in chunks:
        for position, _ in guard.through(chunk, lambda position, _record: out.append(position)):
            if position in (deadly or set()) or position == killed_at:
                raise Death
        guard.leave(chunk.end)
    guard.close()
    return out


CHUNKS = [Chunk([(at, b"") for at in range(first, first + 50, 10)], first + 50) for first in (0, 50, 100)]


def lives(path: Path, deadly: set[int]) -> tuple[int, list[int]]:
    for deaths in range(10):
        try:
            return deaths, live(path, CHUNKS, deadly)
        except Death:
            continue
    raise AssertionError("it dies for ever")


@pytest.mark.parametrize("at", [0, 40, 50, 80, 140])
def test_after_one_death_in_the_chunk_and_two_at_the_record_it_is_left_out(tmp_path: Path, at: int) -> None:
    assert lives(tmp_path / "note", {at}) == (3, [at])
    assert live(tmp_path / "note", CHUNKS, {at}) == [at], "for ever: the cursor may lie before it again"


def test_two_deadly_records_in_one_chunk_are_both_learnt(tmp_path: Path) -> None:
    assert lives(tmp_path / "note", {60, 80}) == (5, [60, 80])


def test_kills_at_random_places_leave_nothing_out(tmp_path: Path) -> None:
    rng = random.Random(4)
    places = list(range(0, 150, 10))
    before = None
    for _ in range(40):
        at = rng.choice([place for place in places if place != before])
        before = at
        with pytest.raises(Death):
            assert live(tmp_path / "note", CHUNKS, killed_at=at) == []
    assert live(tmp_path / "note", CHUNKS) == []


def test_a_note_that_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "note").write_bytes(b"?")
    assert live(tmp_path / "note", CHUNKS) == []


def deadly_split(kind: str, fields: Any, strangers: Any) -> Any:
    if fields.get("power_w") == DEADLY:
        raise Death
    return split(kind, fields, strangers)


def test_a_gateway_that_dies_of_a_record_holds_it_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant = Plant(tmp_path)
    monkeypatch.setattr("gateway.samples.split", deadly_split)
    plant.samples("SM-1", range(0, 60, 5))
    topic = wire.up("soymilk", "SM-2", "telemetry")
    plant.pipeline.accept([Message(topic, b'{"ts":%d,"boot":"b","seq":1,"power_w":%.1f}' % (T0, DEADLY), T0)])
    deaths = 0
    for _ in range(20):
        try:
            plant.pipeline.ingest([])
            plant.pipeline.drain()
            break
        except Death:
            deaths += 1
            plant.crash()
    assert 3 <= deaths <= 6  # both readers of the spool have to learn it
    plant.samples("SM-1", range(60, 120, 5), fault_code="E4")
    plant.pipeline.drain()
    plant.tick(130)
    (held,) = plant.held()
    assert (held.reason, held.topic) == ("internal_error", topic)
    assert "died twice" in held.explanation
    assert [ticket.serial for ticket in plant.tickets()] == ["SM-1"]
    assert len(plant.telemetry.range("SM-1", "soymilk", T0, T0 + 120_000)) == 24
    plant.crash()
    plant.pipeline.ingest([])  # the cursor is behind it for good
    assert len(plant.held()) == 1


def test_a_gateway_that_dies_of_what_was_held_of_a_claimed_machine_takes_in_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = Plant(tmp_path)
    plant.samples("NEW-1", [0, 5])
    plant.samples("NEW-1", [10], power_w=DEADLY)
    plant.samples("NEW-1", [15, 20])
    plant.tick(21)
    form = {"serial": "NEW-1", "type": "soymilk", "model": "SMM-60", "site_id": "1"}
    with plant.sessions.command() as session:
        save_machine(session, SHELL, form, plant.clock.now())
    monkeypatch.setattr("gateway.samples.split", deadly_split)
    for _ in range(20):
        try:
            plant.tick(30)
            plant.pipeline.drain()
            break
        except Death:
            plant.crash()
    else:
        raise AssertionError("it dies for ever")
    assert len(plant.telemetry.range("NEW-1", "soymilk", T0, T0 + 60_000)) == 4
    left_out = [row for row in plant.held() if row.reason == "internal_error"]
    assert left_out
    assert all(b"666" in row.payload and "died twice" in row.explanation for row in left_out)
