"""The spool keeps what it has acknowledged, whatever happens to its files."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.errors import SettingsError, UnavailableError
from gateway.ingest.spool import MARK, Checkpoint, Spool, pack, scan

BODIES = [b"first", b"", b"third " * 40, MARK + b"looks like a record", b"last one"]


def bodies_in(spool: Spool, position: int = 0, max_bytes: int = 1 << 20) -> list[bytes]:
    found: list[bytes] = []
    while True:
        chunk = spool.read(position, max_bytes)
        if chunk.end <= position:
            return found
        found.extend(body for _, body in chunk.records)
        position = chunk.end


def filled(folder: Path, bodies: list[bytes] = BODIES) -> Path:
    folder.mkdir(exist_ok=True)
    segment = folder / f"{0:020d}.seg"
    segment.write_bytes(b"".join(map(pack, bodies)))
    return segment


def test_records_come_back_in_order_and_after_reopening(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    end = spool.append(BODIES[:2])
    assert spool.append(BODIES[2:]) == spool.end > end
    assert bodies_in(spool) == BODIES
    assert bodies_in(spool, end) == BODIES[2:]
    spool.close()
    again = Spool(tmp_path)
    again.append([b"after"])
    assert bodies_in(again) == [*BODIES, b"after"]
    assert (again.damaged, again.counts.torn) == (0, 0)


def test_fdatasync_comes_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    write, sync = os.write, os.fdatasync
    monkeypatch.setattr(os, "write", lambda fd, block: (order.append("write"), write(fd, block))[1])
    monkeypatch.setattr(os, "fdatasync", lambda fd: (order.append("sync"), sync(fd))[1])
    spool = Spool(tmp_path)
    order.clear()
    spool.append([b"x", b"y"])
    assert order == ["write", "sync"]


@pytest.mark.parametrize("lost", range(1, len(pack(BODIES[-1])) + 1))
def test_a_tail_torn_at_any_byte_loses_only_the_last_record(tmp_path: Path, lost: int) -> None:
    segment = filled(tmp_path)
    os.truncate(segment, segment.stat().st_size - lost)
    spool = Spool(tmp_path)
    assert spool.counts.torn == (lost < len(pack(BODIES[-1])))
    spool.append([b"after"])
    assert bodies_in(spool) == [*BODIES[:-1], b"after"]
    spool.close()
    assert bodies_in(Spool(tmp_path)) == [*BODIES[:-1], b"after"]


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("index", range(len(BODIES)))
def test_a_bit_flipped_anywhere_loses_only_that_record(tmp_path: Path, index: int, bit: int) -> None:
    begin = sum(len(pack(body)) for body in BODIES[:index])
    for at in range(begin, begin + len(pack(BODIES[index]))):
        folder = tmp_path / str(at)
        segment = filled(folder)
        content = bytearray(segment.read_bytes())
        content[at] ^= 1 << bit
        segment.write_bytes(content)
        spool = Spool(folder)
        assert bodies_in(spool) == BODIES[:index] + BODIES[index + 1 :]
        assert spool.damaged + spool.counts.torn == 1
        spool.append([b"after"])
        assert bodies_in(spool)[-1] == b"after"
        spool.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    bodies=st.lists(st.binary(max_size=60), min_size=1, max_size=30),
    damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=4),
    read_bytes=st.integers(1, 200),
)
def test_opening_and_reading_never_fail_and_invent_nothing(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes], damage: list[tuple[int, int]], read_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, segment_bytes=150)
    for start in range(0, len(bodies), 5):
        spool.append(bodies[start : start + 5])
    spool.close()
    for at, flip in damage:
        segments = sorted(folder.glob("*.seg"))
        segment = segments[at % len(segments)]
        content = bytearray(segment.read_bytes())
        if content:
            content[at % len(content)] ^= flip
            segment.write_bytes(content)
    again = Spool(folder, segment_bytes=150)
    found = bodies_in(again, max_bytes=read_bytes)
    rest = iter(bodies)
    assert all(any(body == given for given in rest) for body in found), "in order, and nothing that was not written"
    assert len(found) >= len(bodies) - len(damage)
    again.append([b"after"])
    assert bodies_in(again, max_bytes=read_bytes) == [*found, b"after"]
    again.close()


def test_what_the_disk_cannot_read_is_damage_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [bytes([at]) * 3000 for at in range(10)]
    filled(tmp_path, bodies)
    pread, bad = os.pread, range(4096, 8192)

    def reading(descriptor: int, size: int, at: int) -> bytes:
        if at < bad.stop and at + size > bad.start:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(descriptor, size, at)

    monkeypatch.setattr("gateway.ingest.spool.os.pread", reading)
    spool = Spool(tmp_path)
    assert spool.read_raw(0, 3000) == (0, pread(os.open(spool._segments[0].path, os.O_RDONLY), 3000, 0))
    assert bodies_in(spool) == [bodies[0], *bodies[3:]]
    assert spool.damaged == 1
    ((position, span),) = spool.read(0).damaged
    assert (position, len(span)) == (3012, 2 * 3012)
    assert spool.append([b"more"]) == spool.end
    spool.close()


def test_segments_behind_the_cursor_are_freed_when_old_enough(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=100)
    ends = [spool.append([bytes(120)]) for _ in range(5)]
    for segment in tmp_path.glob("*.seg"):
        os.utime(segment, (1000, 1000))
    spool.release(ends[2], written_before=999)
    assert spool.start == 0
    spool.release(ends[2], written_before=1001)
    assert spool.start == ends[2]
    assert len(bodies_in(spool)) == 2
    spool.release(ends[4], written_before=1001)
    assert spool.start == ends[3], "the segment that is written to stays"


def test_a_full_spool_refuses_and_recovers_when_drained(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=200, max_bytes=500)
    for _ in range(5):
        spool.append([bytes(80)])
    with pytest.raises(UnavailableError, match="full"):
        spool.append([bytes(80)])
    kept = bodies_in(spool)
    assert spool.size <= 500
    with pytest.raises(UnavailableError):
        spool.append([bytes(200)])
    assert bodies_in(spool) == kept
    spool.release(spool.end, written_before=0)
    spool.append([b"room again"])
    assert bodies_in(spool)[-1] == b"room again"


def test_drop_oldest_gives_up_and_counts(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=200, max_bytes=500, policy="drop_oldest")
    for number in range(20):
        spool.append([bytes([number]) * 80])
    assert spool.size <= 500
    assert spool.counts.dropped_bytes > 0
    found = bodies_in(spool)
    assert found == [bytes([number]) * 80 for number in range(20 - len(found), 20)]


def failing_once(call: Callable[..., object], error: OSError) -> Callable[..., object]:
    failures = [error]

    def wrapped(*arguments: object) -> object:
        if failures:
            raise failures.pop()
        return call(*arguments)

    return wrapped


@pytest.mark.parametrize("call", ["write", "fdatasync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_error_acknowledges_nothing_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    spool = Spool(tmp_path)
    spool.append([b"before"])
    end = spool.end
    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing_once(getattr(os, call), OSError(number, "no")))
        with pytest.raises(UnavailableError):
            spool.append([b"lost"])
    assert spool.end == end
    assert bodies_in(spool) == [b"before"]
    spool.append([b"after"])
    assert bodies_in(spool) == [b"before", b"after"]


def test_a_folder_keeps_its_identity_and_a_new_one_has_another(tmp_path: Path) -> None:
    first = Spool(tmp_path / "a")
    identity = first.id
    first.close()
    assert Spool(tmp_path / "a").id == identity != Spool(tmp_path / "b").id


def test_one_gateway_per_folder_and_a_clear_word_about_a_bad_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(SettingsError, match="another gateway"):
        Spool(tmp_path)
    spool.close()
    Spool(tmp_path).close()
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be written"):
        Spool(tmp_path / "file" / "spool")


def test_waiting_ends_with_data_or_with_patience(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert not spool.wait(spool.end, 0.0)
    spool.append([b"x"])
    assert spool.wait(0, 0.0)


def test_a_checkpoint_survives_and_a_broken_one_means_the_beginning(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "stored")
    assert checkpoint.load() == 0
    checkpoint.save(123)
    assert Checkpoint(tmp_path / "stored").load() == 123
    (tmp_path / "stored").write_text("\x00\x00")
    assert checkpoint.load() == 0


def test_scanning_says_what_is_there(tmp_path: Path) -> None:
    segment = filled(tmp_path)
    content = bytearray(segment.read_bytes())
    content[3] ^= 1
    segment.write_bytes(content)
    assert [(records, damaged) for _, records, damaged in scan(tmp_path)] == [(BODIES[1:], 1)]


def test_a_full_spool_waits_for_low_water_instead_of_stop_and_go(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=100, max_bytes=1000)
    body = bytes(100 - len(pack(b"")))
    ends = [spool.append([body]) for _ in range(10)]
    with pytest.raises(UnavailableError, match="full"):
        spool.append([body])
    spool.release(ends[0], written_before=0)
    with pytest.raises(UnavailableError, match="full"):
        spool.append([body])
    spool.release(ends[2], written_before=0)
    spool.append([body])
    assert spool.size <= 1000


def test_what_drop_oldest_gives_up_is_told_and_what_was_read_is_not(tmp_path: Path) -> None:
    told: list[bytes] = []
    spool = Spool(tmp_path, segment_bytes=200, max_bytes=500, policy="drop_oldest", on_dropped=told.extend)
    bodies = [bytes([number]) * 80 for number in range(20)]
    read_to = spool.append(bodies[:1])
    spool.release(read_to, written_before=0)
    for body in bodies[1:]:
        spool.append([body])
    kept = bodies_in(spool)
    assert told + kept == bodies[1:]
    assert spool.counts.dropped_bytes == sum(len(pack(body)) for body in told)


def test_a_full_disk_gives_its_reserve_to_the_draining_and_takes_nothing_in_before_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, segment_bytes=100, reserve_bytes=1 << 20)
    reserve = tmp_path / "reserve"
    assert reserve.stat().st_blocks * 512 >= 1 << 20
    ends = [spool.append([bytes(120)]) for _ in range(4)]
    with monkeypatch.context() as full:
        full.setattr(os, "write", failing_once(os.write, OSError(errno.ENOSPC, "no room")))
        with pytest.raises(UnavailableError):
            spool.append([b"lost"])
    assert not reserve.exists(), "the checkpoint and the databases have room now"
    spool.release(ends[1], written_before=0)
    with monkeypatch.context() as narrow:
        narrow.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=(2 << 20) - 1))
        with pytest.raises(UnavailableError):
            spool.append([b"still lost"])
    assert spool.start == ends[1], "what is drained is freed at once, kept segments too"
    spool.append([b"again"])
    assert reserve.exists()
    with monkeypatch.context() as full:
        full.setattr(os, "write", failing_once(os.write, OSError(errno.ENOSPC, "no room")))
        with pytest.raises(UnavailableError):
            spool.append([b"lost"])
    spool.release(end := spool.end, written_before=0)
    spool.append([b"again"])
    assert spool.start == end, "the segment that is written to is freed too when all of it is drained"
    assert bodies_in(spool)[-1] == b"again"
