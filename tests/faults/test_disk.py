"""The spool's disk is full, fails, is slow, or has damaged what was on it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.ingest.spool import pack, scan
from tests.faults.conftest import VARIANTS, Open
from tests.faults.place import FULL, SERIALS
from tests.integration.gateway_fleet import stored
from tests.servers import needs_strace, small_disk, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

DISK = "64m" if FULL else "24m"
MESSAGES, FILLER = (250 if FULL else 90), "x" * 50_000
"""Of each machine; 36 MB at least: more than the disk. Unknown keys stay in the spool and are not stored."""
SLOW_US = 500_000


def test_fault_12_a_full_disk_stops_the_acknowledging_and_heals_by_itself(open_place: Open, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    place = open_place(wrapper=small_disk(tmp_path / "spool", DISK), BREWAIR_SPOOL_DIR=str(tmp_path / "spool"))
    place.influxdb.kill()
    fleet = place.fleet(filler=FILLER)
    fleet.publish(MESSAGES, rate=1000)
    fleet.publisher.flush()
    wait_until(lambda: place.gateway.said("spool_unavailable") == 1, timeout_s=60, what="the disk to be full")
    acked = place.figures()["brewair_messages_acked_total"]
    assert acked < len(fleet.sent), "what is not on the disk is not acknowledged"
    assert acked == place.figures()["brewair_messages_accepted_total"], "acknowledged is exactly what is on the disk"
    place.influxdb.start()
    place.prove(timeout_s=150)
    wait_until(lambda: place.gateway.said("spool_available") == 1, timeout_s=60, what="a word that it is over")
    assert fleet.publisher.acked == fleet.sent
    for counter in ("brewair_spool_damaged_places_total", "brewair_spool_torn_tails_total"):
        assert place.figures()[counter] == 0, "no segment is hurt"
    assert place.gateway.stop() == 0


def test_fault_13_fdatasync_fails(open_place: Open) -> None:
    needs_strace()
    failing = ("strace", "-D", "-f", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO:when=5..9")
    place = open_place(wrapper=failing)
    fleet = place.fleet()
    fleet.publish(60)
    place.prove()
    assert place.gateway.said("spool_unavailable") >= 1
    assert place.gateway.said("spool_unavailable") == place.gateway.said("spool_available")
    assert "Input/output error" in next(
        line["why"] for line in place.gateway.events if line["event"] == "spool_unavailable"
    )
    assert fleet.publisher.acked == fleet.sent


def test_fault_13_fdatasync_is_slow(open_place: Open, tmp_path: Path) -> None:
    needs_strace()
    slow = (
        "strace",
        "-D",
        "-f",
        "-o",
        str(tmp_path / "trace"),
        "-e",
        "trace=fdatasync",
        "-e",
        f"inject=fdatasync:delay_exit={SLOW_US}",
    )
    place = open_place(wrapper=slow)
    fleet = place.fleet()
    fleet.publish(200, rate=400)
    place.prove()
    seen = place.figures()
    delay_s = seen["brewair_rx_to_stored_seconds_sum"] / seen["brewair_rx_to_stored_seconds_count"]
    place.see(f"received to stored in {delay_s:.2f} s on average")
    assert delay_s < 60 * SLOW_US / 1e6
    trace = (place.folder / "trace").read_text(errors="replace")
    batches = len(re.findall(r"fdatasync(\(\d+| resumed>)\) += 0", trace))
    assert batches * 4 < len(fleet.sent), "many messages share one slow fdatasync"
    place.see(f"{len(fleet.sent)} messages in {batches} batches")
    assert place.gateway.said("broker_connected") == 1, "it keeps its connection"
    assert fleet.publisher.acked == fleet.sent


@pytest.mark.parametrize(
    ("torn", "variant"), [(1, "native"), (7, "paho"), (12, "python"), (60, "native"), (10_000, "native")]
)
def test_fault_14_a_torn_and_flipped_spool_loses_only_what_is_damaged(
    open_place: Open, torn: int, variant: str
) -> None:
    place = open_place(**VARIANTS[variant])
    place.influxdb.kill()
    fleet = place.fleet()
    fleet.publish(50, rate=2000)
    fleet.publisher.flush()
    wait_until(
        lambda: place.figures()["brewair_messages_acked_total"] >= len(fleet.sent), timeout_s=60, what="the spool"
    )
    place.gateway.kill()
    (segment,) = place.spool.glob("*.seg")
    ((_, records, _),) = list(scan(place.spool))
    content = bytearray(segment.read_bytes())
    sizes = [len(pack(record)) for record in records]
    middle = len(records) // 2
    content[sum(sizes[:middle]) + sizes[middle] // 2] ^= 0x10
    torn = min(torn, sizes[-1] - 1)
    segment.write_bytes(content[:-torn])
    samples = [(serial, fleet.start_ms + n * 5000) for n in range(fleet.rounds) for serial in SERIALS]
    place.influxdb.start()
    place.gateway.start()
    place.gateway.wait_connected()
    # One connection publishes in order, so the records are the samples in order.
    damaged = {samples[middle], samples[-1]}
    place.prove(may_miss=damaged, unheard=damaged)
    assert fleet.sent - stored(place.influxdb, place.bucket).keys() == {samples[middle], samples[-1]}
    assert place.figures()["brewair_spool_torn_tails_total"] == 1
    assert place.figures()["brewair_spool_damaged_places_total"] == 1
