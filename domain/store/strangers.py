"""What is kept of machines that nobody has registered, until they are claimed or dismissed.

Up to its bound every message is held, the oldest first: nothing that is held is ever given up for something newer. What comes
beyond is counted on the stranger's row. A row goes from waiting to claimed (somebody registered the machine), and to admitted
when the gateway has taken in everything held; or to dismissed, after which its messages are only counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from domain.store.tables import Equipment, QuarantineRow, StrangerRow
from domain.strangers import Stranger

if TYPE_CHECKING:
    from domain.store.ingest import Held

WAITING, CLAIMED, ADMITTED, DISMISSED = "waiting", "claimed", "admitted", "dismissed"
MESSAGES_OF_ONE = 100_000
"""34 days of a machine that sends every 30 s."""
BYTES_OF_ONE = 64 << 20
BYTES_OF_ALL = 1 << 30
MOST_STRANGERS = 1000
OTHERS = Stranger("", "")
"""The row that counts the messages of everybody beyond ``MOST_STRANGERS``."""
UNKNOWN_SERIAL = "unknown_serial"


class Keeper:
    """Strangers within one transaction of the gateway: who they are, and whether there is room for what they say."""

    def __init__(self, session: Session, strangers: Iterable[Stranger]) -> None:
        self._session = session
        names = {one.name for one in strangers}
        self._rows: dict[tuple[str, str], StrangerRow] = {}
        if not names:
            return
        for row in session.scalars(select(StrangerRow).where(StrangerRow.name.in_([*names, OTHERS.name]))):
            self._rows[row.convention, row.name] = row
        self._count, self._bytes = session.execute(
            select(func.count(), func.coalesce(func.sum(StrangerRow.held_bytes), 0)).where(
                StrangerRow.state.in_((WAITING, CLAIMED))
            )
        ).one()

    def room(self, one: Held) -> StrangerRow | None:
        """The row of who said ``one``, where it is to be held; None where it is only counted, or was taken in before."""
        assert one.stranger is not None
        row = self._row(one.stranger, one.received_at)
        if _counted(row.position, one.position):
            return None
        row.position = one.position
        row.heard += 1
        row.first_heard_at = min(row.first_heard_at, one.received_at)
        row.last_heard_at = max(row.last_heard_at, one.received_at)
        if row.name == one.stranger.name:
            row.model, row.fw = one.stranger.model or row.model, one.stranger.fw or row.fw
        size = len(one.payload)
        if row.state == DISMISSED:
            row.dismissed += 1
            return None
        full = row.held >= MESSAGES_OF_ONE or row.held_bytes + size > BYTES_OF_ONE or self._bytes + size > BYTES_OF_ALL
        if full or not row.name:
            row.beyond += 1
            return None
        row.held, row.held_bytes, self._bytes = row.held + 1, row.held_bytes + size, self._bytes + size
        return row

    def _row(self, stranger: Stranger, at: datetime) -> StrangerRow:
        row = self._rows.get((stranger.convention, stranger.name))
        if row is None and self._count >= MOST_STRANGERS and stranger is not OTHERS:
            return self._row(OTHERS, at)
        if row is None:
            row = StrangerRow(
                convention=stranger.convention, name=stranger.name, serial=stranger.serial, type=stranger.type,
                model="", fw="", first_heard_at=at, last_heard_at=at, position="", state="",
                heard=0, held=0, held_bytes=0, beyond=0, taken=0, dismissed=0,
            )  # fmt: skip
            self._session.add(row)
            self._rows[stranger.convention, stranger.name] = row
            self._count += 1
        if row.state in ("", ADMITTED):  # new here, or bound to another name since
            row.machine = _owner(self._session, row)
            row.state = CLAIMED if row.machine else WAITING
            self._session.flush()
        return row


def _counted(before: str, now: str) -> bool:
    """Whether a place in the spool was read before: after a crash the gateway reads some of them again."""
    life = now.partition(":")[0]
    return before.startswith(f"{life}:") and now <= before


def _owner(session: Session, row: StrangerRow) -> str | None:
    """The registered machine that it is; None where there is none."""
    query = select(Equipment.serial)
    if row.convention:
        its_own = or_(
            Equipment.binding_topic == row.name,
            Equipment.binding_topic.startswith(f"{row.name}/", autoescape=True),
        )
        query = query.where(Equipment.binding_convention == row.convention, its_own)
    else:
        query = query.where(Equipment.serial == row.serial, Equipment.type == row.type)
    return session.scalar(query.order_by(Equipment.serial).limit(1))


def claim(session: Session, machine: Equipment, now: datetime) -> int:
    """A machine was registered, or bound anew: who was waiting and is this machine, is claimed. Returns what is held of it."""
    names = [StrangerRow.name == f"{machine.type}/{machine.serial}"]
    if machine.binding_topic:
        levels = machine.binding_topic.split("/")
        names = [StrangerRow.name.in_(["/".join(levels[: n + 1]) for n in range(len(levels))])]
    rows = session.scalars(
        select(StrangerRow).where(
            StrangerRow.convention == machine.binding_convention, StrangerRow.state.in_((WAITING, DISMISSED)), *names
        )
    )
    held = 0
    for row in rows:
        row.state, row.machine, row.handled_at = CLAIMED, machine.serial, now
        held += row.held
    return held


def dismiss(session: Session, row: StrangerRow, now: datetime) -> int:
    """Give up what is held of somebody; from now on its messages are only counted. Returns how many were given up."""
    given_up = row.held
    session.execute(
        delete(QuarantineRow)
        .where(QuarantineRow.stranger_id == row.id, QuarantineRow.state == "held")
        .execution_options(synchronize_session=False)
    )
    row.dismissed += given_up
    row.held = row.held_bytes = 0
    row.state, row.handled_at = DISMISSED, now
    return given_up


def released(row: StrangerRow, message: QuarantineRow, *, dropped: bool) -> None:
    """A person replays or drops one held message by itself."""
    row.held, row.held_bytes = row.held - 1, row.held_bytes - len(message.payload)
    row.dismissed += dropped


def waiting(session: Session) -> int:
    """How many machines speak that nobody has registered or dismissed."""
    return session.scalar(select(func.count()).where(StrangerRow.state == WAITING)) or 0


def at_the_door(session: Session) -> frozenset[str]:
    """Serials of the registered machines of which something is still held."""
    return frozenset(
        serial
        for serial in session.scalars(select(StrangerRow.machine).where(StrangerRow.state == CLAIMED).distinct())
        if serial is not None
    )


def held_of(session: Session, serial: str, limit: int, most_bytes: int) -> list[QuarantineRow]:
    """What is held of a claimed machine, the oldest first: at most ``limit``, and one at least."""
    rows = session.scalars(
        select(QuarantineRow)
        .join(StrangerRow, StrangerRow.id == QuarantineRow.stranger_id)
        .where(StrangerRow.machine == serial, StrangerRow.state == CLAIMED, QuarantineRow.state == "held")
        .order_by(QuarantineRow.id)
        .limit(limit)
    )
    found: list[QuarantineRow] = []
    size = 0
    for row in rows:
        size += len(row.payload)
        if found and size > most_bytes:
            break
        found.append(row)
    return found


def admitted(session: Session, serial: str, ids: Sequence[int], now: datetime) -> None:
    """These messages of a claimed machine are taken in; with the last one it is a machine like any other."""
    taken: Counter[int] = Counter()
    size: Counter[int] = Counter()
    for row in session.scalars(select(QuarantineRow).where(QuarantineRow.id.in_(ids))):
        assert row.stranger_id is not None
        taken[row.stranger_id] += 1
        size[row.stranger_id] += len(row.payload)
    session.execute(delete(QuarantineRow).where(QuarantineRow.id.in_(ids)).execution_options(synchronize_session=False))
    claimed = select(StrangerRow).where(StrangerRow.machine == serial, StrangerRow.state == CLAIMED)
    for stranger in session.scalars(claimed):
        stranger.held -= taken[stranger.id]
        stranger.held_bytes -= size[stranger.id]
        stranger.taken += taken[stranger.id]
        if stranger.held <= 0:
            stranger.state, stranger.handled_at = ADMITTED, now


def known(session: Session, state: str = WAITING) -> list[StrangerRow]:
    """Strangers in one state, those heard last first; the row of all others last."""
    rows = session.scalars(
        select(StrangerRow).where(StrangerRow.state == state).order_by(StrangerRow.last_heard_at.desc(), StrangerRow.id)
    )
    return sorted(rows, key=lambda row: not row.name)


def stranger(session: Session, number: int) -> StrangerRow | None:
    """One of them."""
    return session.get(StrangerRow, number)


def counts(session: Session) -> dict[str, int]:
    """How many strangers there are in each state."""
    rows = session.execute(select(StrangerRow.state, func.count()).group_by(StrangerRow.state))
    return {str(state): int(count) for state, count in rows}
