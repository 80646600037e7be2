"""The whole loop on a fake clock: a finding becomes a ticket, a repair that was not enough, a proved one, and an end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from domain.clock import from_ms, to_ms
from domain.desk import evidence
from domain.desk.dispatch import propose
from domain.desk.verification import SETTLE, judge_run
from domain.errors import RefusedError
from domain.readings import Reading
from domain.store import schema
from domain.store.queries import tickets as query
from domain.store.session import open_engine
from domain.store.tables import DeviceCommand, VerdictRow
from domain.tickets.states import Action, State
from domain.verdicts import Outcome
from tests.desk_world import World, moved
from tests.unit.verification.traces import changed, readings, soymilk

STATES = [
    State.REPORTED, State.READY, State.DISPATCHED, State.ACCEPTED, State.ON_THE_WAY, State.REPAIRING, State.TESTING,
    State.REPAIRING, State.TESTING, State.VERIFIED, State.CLOSED,
]  # fmt: skip


def healthy() -> list[Reading]:
    """A whole test batch of a healthy SMM-10: about 19 minutes active, then a rest."""
    return readings(soymilk(), seq=True)


def one_element_lost() -> list[Reading]:
    """The same batch on two thirds of the heating power."""
    rows = soymilk()
    return readings(changed(rows, lambda r: r["heater_on"] is True, power_w=lambda r: 0.67 * r["power_w"]), seq=True)


def on_disk(folder: Path) -> World:
    """A world whose database a restart can find again."""
    engine = open_engine(f"sqlite:///{folder / 'brewair.db'}")
    schema.upgrade(engine)
    return World(engine)


def measured(world: World, trace: Sequence[Reading], *, restart_at: int | None = None) -> World:
    """Live through a test run: samples come as they are measured, a tick each minute. Returns the (re)started world."""
    sent = moved(trace, "SMM-1", world.now + timedelta(seconds=5))
    for start in range(0, len(sent), 12):
        batch = sent[start : start + 12]
        world.now = max(world.now, from_ms(batch[-1].ts))
        world.feed(batch)
        world.tick()
        if restart_at is not None and start <= restart_at < start + 12:
            world = world.restarted()
            world.feed(batch)  # redelivered: nobody had acknowledged them
    world.tick(seconds=20)
    return world


def to_the_second_run(world: World) -> int:
    """Finding → ticket → technician → a repair that was not enough → the second repair is done."""
    finding, number = world.raised()
    assert world.ticket(number).state == State.REPORTED
    world.do("operator", Action.VISIT_NEEDED, number)
    with world.read() as session:
        best = propose(session, query.ticket(session, number))[0]
    assert best.reasons
    world.do("dispatcher", Action.ASSIGN, number, assignee=str(best.candidate.person_id))
    who = next(login for login, actor in world.actors.items() if actor.person_id == best.candidate.person_id)
    for action in (Action.ACCEPT, Action.LEAVE, Action.ARRIVE):
        world.advance(minutes=10)
        world.do(who, action, number)
    world.advance(minutes=20)
    world.do(who, Action.FINISH_REPAIR, number, measure="repair_heater_wiring")
    with pytest.raises(RefusedError):
        world.do(who, Action.CLOSE, number)
    world = measured(world, one_element_lost())
    assert world.ticket(number).state == State.REPAIRING
    failed = world.runs(number)[0]
    assert (failed.outcome, failed.voided_at) == (Outcome.FAILED, None)
    world.clear(finding)
    world.advance(minutes=20)
    world.do(who, Action.FINISH_REPAIR, number, measure="replace_element")
    return number


def test_the_loop_is_closed_only_by_the_run_that_passed(tmp_path: Path) -> None:
    world = on_disk(tmp_path)
    number = to_the_second_run(world)
    world = measured(world, healthy())
    passed, failed = world.runs(number)
    assert (passed.outcome, passed.attempt) == (Outcome.PASSED, 2)
    assert failed.voided_at is not None
    assert world.ticket(number).state == State.VERIFIED
    world.do("dispatcher", Action.CLOSE, number)
    ticket = world.ticket(number)
    assert (ticket.state, ticket.ended_at) == (State.CLOSED, world.now)
    with world.read() as session:
        told = query.timeline(session, number)
        assert [row.to_state for row in told if row.to_state and row.to_state != row.from_state] == STATES
        assert all(row.actor_name for row in told)
        sealed = session.scalars(select(VerdictRow).order_by(VerdictRow.run_id)).all()
        assert [row.outcome for row in sealed] == ["failed", "passed"]
        assert all(evidence.intact(row) for row in sealed)
        assert any("heating_power" in reason for reason in sealed[0].body["reasons"])
        commands = session.scalars(select(DeviceCommand).order_by(DeviceCommand.created_at)).all()
        assert [command.name for command in commands] == ["test_mode", "stop", "test_mode"]
        # computed again from the sealed evidence, both verdicts are the same
        for row, run in zip(sealed, (failed, passed), strict=True):
            assert judge_run(session, run, ended=True).outcome == row.outcome
    world.tick(hours=100)
    assert [t.id for t in world.tickets()] == [number]


def test_a_restart_in_the_middle_of_a_run_changes_no_verdict(tmp_path: Path) -> None:
    """Neither early in the run, nor in the middle of it, nor between its window and its verdict."""
    told = []
    for restart_at in (None, 20, 200, 290):
        world = on_disk(tmp_path / str(restart_at))
        number = to_the_second_run(world)
        world = measured(world, healthy(), restart_at=restart_at)
        run = world.runs(number)[0]
        with world.read() as session:
            verdict = query.verdict(session, run.id)
            assert verdict is not None
            assert evidence.intact(verdict)
            told.append((verdict.body, verdict.evidence_sha256, run.decided_at))
        assert world.ticket(number).state == State.VERIFIED
    assert told == [told[0]] * 4


def test_a_pass_waits_for_late_samples_and_they_count(tmp_path: Path) -> None:
    """The window is over and all is well; for 15 seconds more a sample that was held up may still come."""
    world = on_disk(tmp_path)
    number = to_the_second_run(world)
    sent = moved(healthy(), "SMM-1", world.now + timedelta(seconds=5))
    held_up = sent.pop(200)
    while not world.runs(number)[0].progress.get("decided"):
        count = 2 if len(sent) < 100 else 50
        now, sent = sent[:count], sent[count:]
        world.now = from_ms(now[-1].ts)
        world.feed(now)
        world.tick()
    run = world.runs(number)[0]
    assert (run.progress["outcome"], run.outcome) == ("passed", Outcome.PENDING)
    settled_at = from_ms(run.progress["decided_at"]) + SETTLE
    world.feed([_received(held_up, to_ms(world.now))])
    world.tick(seconds=(settled_at - world.now).total_seconds() - 1)
    assert world.runs(number)[0].outcome == Outcome.PENDING
    world.tick(seconds=1)
    run = world.runs(number)[0]
    assert run.outcome == Outcome.PASSED
    with world.read() as session:
        assert held_up.ts in [reading.ts for reading in evidence.samples(session, run)]


def test_samples_that_queued_while_the_gateway_was_down_count_in_full(tmp_path: Path) -> None:
    """Two minutes of a run arrive in one heap: neither a wrong clock nor a gap."""
    world = on_disk(tmp_path)
    number = to_the_second_run(world)
    sent = moved(healthy(), "SMM-1", world.now + timedelta(seconds=5))
    for span in ((0, 30), (40, 70), (200, 230)):
        at = sent[span[1] - 1].ts
        sent[slice(*span)] = [_received(reading, at) for reading in sent[slice(*span)]]
    for at in sorted({reading.recv_ms or 0 for reading in sent}):
        world.now = max(world.now, from_ms(at))
        world.feed([reading for reading in sent if reading.recv_ms == at])
    world.tick(seconds=20)
    run = world.runs(number)[0]
    assert run.outcome == Outcome.PASSED, run.progress


def test_a_constant_skew_is_taken_off_and_what_came_before_the_run_is_left_out(tmp_path: Path) -> None:
    """The machine's clock is seven minutes slow; it still has old samples to send, which are not of this run."""
    world = on_disk(tmp_path)
    number = to_the_second_run(world)
    began = world.now
    trace = moved(healthy(), "SMM-1", began + timedelta(seconds=5))
    old = moved(one_element_lost(), "SMM-1", began - timedelta(hours=1))
    slow = [_shifted(reading, -420_000) for reading in (*trace,)]
    queued = [_received(_shifted(reading, -420_000), trace[0].recv_ms or 0, boot="a") for reading in old]
    world.now = from_ms(trace[-1].ts)
    world.feed([*queued, *slow])
    world.tick(seconds=20)
    run = world.runs(number)[0]
    assert run.outcome == Outcome.PASSED, run.progress
    assert run.samples == len(queued) + len(slow)


def test_silence_is_no_pass(tmp_path: Path) -> None:
    world = on_disk(tmp_path)
    number = to_the_second_run(world)
    world.tick(hours=23, minutes=59)
    assert world.runs(number)[0].outcome == Outcome.PENDING
    world.tick(minutes=2)
    assert world.runs(number)[0].outcome == Outcome.INCONCLUSIVE
    assert world.ticket(number).state == State.TESTING
    with pytest.raises(RefusedError):
        world.do("dispatcher", Action.CLOSE, number)
    world.do("wang", Action.EXTEND_TEST, number)
    world = measured(world, healthy())
    assert world.ticket(number).state == State.VERIFIED


def test_what_was_buffered_offline_counts_when_it_comes_before_the_verdict(tmp_path: Path) -> None:
    world = on_disk(tmp_path)
    number = to_the_second_run(world)
    trace = moved(healthy(), "SMM-1", world.now + timedelta(seconds=5))
    world.now = from_ms(trace[60].ts)
    world.feed(trace[:60])
    world.tick(hours=5)
    assert world.runs(number)[0].outcome == Outcome.PENDING
    world.feed([_buffered(reading) for reading in trace[60:]])
    world.tick(seconds=20)
    assert world.runs(number)[0].outcome == Outcome.PASSED


def test_simulated_samples_prove_nothing_at_a_real_site(tmp_path: Path) -> None:
    world = on_disk(tmp_path)
    number = to_the_second_run(world)
    trace = moved(healthy(), "SMM-1", world.now + timedelta(seconds=5), simulated=True)
    world.now = from_ms(trace[-1].ts)
    world.feed(trace)
    world.tick(hours=25)
    assert world.runs(number)[0].outcome == Outcome.INCONCLUSIVE


def _received(reading: Reading, at_ms: int, boot: str | None = None) -> Reading:
    return Reading(
        reading.serial, reading.type, reading.ts, reading.values, boot or reading.boot, reading.seq, recv_ms=at_ms
    )


def _shifted(reading: Reading, ms: int) -> Reading:
    return Reading(
        reading.serial, reading.type, reading.ts + ms, reading.values, reading.boot, reading.seq, recv_ms=reading.recv_ms
    )  # fmt: skip


def _buffered(reading: Reading) -> Reading:
    return Reading(
        reading.serial, reading.type, reading.ts, reading.values, reading.boot, reading.seq, backfill=True,
        recv_ms=reading.ts + 5 * 3_600_000,
    )  # fmt: skip
