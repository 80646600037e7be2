"""The gateway itself ends or is doubled: killed anywhere, stopped under load, two of one name, a shard that moves."""

from __future__ import annotations

import re
import statistics
import threading
import time
from pathlib import Path

import pytest

from gateway.ingest.spool import READ_BYTES
from tests.faults.conftest import Open
from tests.faults.place import FULL, SERIALS, Place
from tests.integration.gateway_fleet import GatewayProcess
from tests.servers import needs_strace, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

KILLS = 50 if FULL else 12
MOMENTS = ("fdatasync", "sendto", "rename")
"""Killed when it enters one: before a record is durable, before PUBACK or a write leaves, between 204 and checkpoint."""


def test_fault_02_killed_anywhere_it_loses_and_doubles_nothing(place: Place) -> None:
    fleet, gateway = place.fleet(), place.gateway
    back: list[float] = []
    for life in range(1, KILLS + 1):
        fleet.publish_until(lambda life=life: gateway.said("broker_connected") >= life)
        deadline = time.monotonic() + place.rng.uniform(0.0, 0.8)
        fleet.publish_until(lambda deadline=deadline: time.monotonic() >= deadline)
        gateway.kill()
        began = time.monotonic()
        gateway.start()
        fleet.publish_until(lambda: stored_since_start(place))
        back.append(time.monotonic() - began)
    place.see(
        f"first write {statistics.median(back):.1f} s after the start, {max(back):.1f} s at most; 3 s on a machine at rest"
    )
    fleet.publish(10)
    place.prove()
    assert fleet.publisher.acked == fleet.sent


def stored_since_start(place: Place) -> bool:
    """Whether this life of the gateway has written something."""
    try:
        return place.figures()["brewair_readings_stored_total"] > 0
    except OSError:
        return False


def killed_in(trace: Path) -> str:
    """The last call before the kill, by the trace of it; nothing while that is being written."""
    lines = trace.read_text(errors="replace").splitlines()
    if not any("killed by SIGKILL" in line for line in lines):
        return ""
    calls = [line.partition(" ")[2].strip() for line in lines if "(" in line and "+++" not in line]
    return calls[-1][:60] if calls else "?"


@pytest.mark.parametrize("call", MOMENTS)
def test_fault_02_killed_at_the_worst_moments_too(open_place: Open, call: str) -> None:
    needs_strace()
    place = open_place()
    fleet, gateway = place.fleet(), place.gateway
    fleet.publish(10)
    for nth in (1, 2, 7):
        gateway.kill()
        trace = place.folder / f"trace-{nth}"
        options = ("-s", "8", "-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}")
        gateway.start("strace", "-D", "-f", *options)
        fleet.publish_until(lambda: not gateway.running)
        told = wait_until(lambda trace=trace: killed_in(trace), timeout_s=20, what="the end of the trace")
        place.see(f"{nth}: killed in {told}")
        assert call in told, "it died of something else"
    gateway.kill()
    gateway.start()
    fleet.publish(10)
    place.prove()
    assert fleet.publisher.acked == fleet.sent


def test_fault_03_sigterm_under_load_leaves_everything_in_order(place: Place) -> None:
    fleet, ended = place.fleet(), threading.Event()
    load = threading.Thread(target=lambda: fleet.publish_until(ended.is_set))
    load.start()
    try:
        wait_until(lambda: place.figures()["brewair_readings_stored_total"] > 200, timeout_s=60, what="load")
        began = time.monotonic()
        assert place.gateway.stop() == 0
        place.see(f"ended {time.monotonic() - began:.1f} s after SIGTERM")
        assert place.gateway.events[-1]["event"] == "gateway_stopped"
        written = sum(segment.stat().st_size for segment in place.spool.glob("*.seg"))
        assert written - READ_BYTES <= int((place.spool / "stored").read_text()) <= written
        place.gateway.start()
        place.gateway.wait_connected()
    finally:
        ended.set()
        load.join()
    place.prove()


def test_fault_24_a_second_gateway_of_one_name_stands_by_takes_over_and_doubles_no_ticket(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    settings = {**place.gateway.settings, "BREWAIR_DATABASE_URL": f"sqlite:///{tmp_path / 'data' / 'brewair.db'}"}
    settings.pop("BREWAIR_METRICS_BIND")
    fleet = place.fleet()
    with GatewayProcess(tmp_path / "second", **settings) as second:
        wait_until(lambda: second.said("shards_held_elsewhere"), timeout_s=60, what="the second one to stand by")
        fleet.publish(20)
        fleet.publisher.flush()
        place.wait_stored(fleet.sent)
        assert second.said("broker_connected") == 0
        place.gateway.stop()
        second.wait_connected()
        fleet.publish(20)
        fleet.publisher.flush()
        place.wait_stored(fleet.sent)
        assert not any(one.said("client_id_taken_over") for one in (place.gateway, second))
        second.stop()
        place.prove()


def test_fault_24_two_gateways_of_one_name_and_two_databases_are_an_alarm(place: Place, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    settings = {name: given for name, given in place.gateway.settings.items() if name != "BREWAIR_DATABASE_URL"}
    settings.pop("BREWAIR_METRICS_BIND")
    fleet = place.fleet()
    with GatewayProcess(tmp_path / "second", **settings) as second:
        two = (place.gateway, second)
        fleet.publish_until(lambda: any(one.said("client_id_taken_over") for one in two), rate=100)
        alarm = next(line for one in two for line in one.events if line["event"] == "client_id_taken_over")
        assert (alarm["level"], alarm["client_id"]) == ("error", "brewair-gw-0-15")
        second.stop()
        fleet.publish(10)
        fleet.publisher.flush()
        wait_until(
            lambda: fleet.publisher.acked <= taken_in(place, tmp_path / "second" / "data" / "spool"),
            timeout_s=60,
            every_s=0.3,
            what="the one that is left to have the rest",
        )


def taken_in(place: Place, other: Path) -> set[tuple[str, int]]:
    """What both spools hold."""
    both = (place.in_spool(), place.in_spool(other))
    return {(serial, ts) for found in both for serial, samples in found.items() for _, ts in samples}


def test_fault_24_a_shard_moves_to_another_gateway_while_machines_publish(open_place: Open, tmp_path: Path) -> None:
    place = open_place(BREWAIR_SHARDS="0-7")
    (tmp_path / "second").mkdir()
    settings = {
        **place.gateway.settings,
        "BREWAIR_DATABASE_URL": f"sqlite:///{tmp_path / 'data' / 'brewair.db'}",
        "BREWAIR_SHARDS": "8-15",
    }
    settings.pop("BREWAIR_METRICS_BIND")
    fleet = place.fleet()
    with GatewayProcess(tmp_path / "second", **settings) as second:
        second.wait_connected()
        fleet.publish(20)
        place.gateway.stop()
        fleet.publish(5)
        with GatewayProcess(tmp_path, "--drain", **place.gateway.settings) as drained:
            assert drained.wait() == 0
        # Started elsewhere under the same name, in another folder.
        moved = GatewayProcess(tmp_path / "third", **{**settings, "BREWAIR_SHARDS": "0-7"})
        (tmp_path / "third").mkdir()
        with moved:
            moved.wait_connected()
            fleet.publish(20)
            fleet.publisher.flush()
            place.wait_stored(fleet.sent)
            place.prove()
            assert not moved.said("client_id_taken_over")


PUBACK = re.compile(r'sendto\(\d+, "@\\2.*, (\d+), \w+, NULL')
PUBACK_BYTES = 4
RECEIVED = re.compile(r"recvfrom\(.*= [1-9]\d*$|<\.\.\. recvfrom resumed>.*= [1-9]\d*$")
ROUNDS = 50
SYNCED = re.compile(r"fdatasync(\(\d+| resumed>)\) += 0")


def test_every_acknowledgement_is_sent_after_fdatasync_returned(place: Place) -> None:
    needs_strace()
    place.gateway.stop()
    trace = place.folder / "trace"
    place.gateway.start("strace", "-D", "-f", "-s", "16", "-o", str(trace), "-e", "trace=recvfrom,sendto,fdatasync")
    place.gateway.wait_connected()
    fleet = place.fleet()
    fleet.publish(ROUNDS)
    place.prove()
    place.gateway.stop()
    wait_until(
        lambda: "+++ exited" in trace.read_text(errors="replace")[-200:], timeout_s=20, what="the end of the trace"
    )
    lines = trace.read_text(errors="replace").splitlines()
    receiver = next(line.split()[0] for line in lines if PUBACK.search(line))
    unsynced, acknowledged = False, 0
    for line in (line for line in lines if line.split()[0] == receiver):
        if RECEIVED.search(line):
            unsynced = True
        elif SYNCED.search(line):
            unsynced = False
        elif sent := PUBACK.search(line):
            acknowledged += int(sent[1]) // PUBACK_BYTES
            assert not unsynced, f"acknowledged before it was durable: {line}"
    assert acknowledged >= len(fleet.sent) == len(SERIALS) * ROUNDS
