"""What a full spool gave up under the policy ``drop_oldest``: messages by machine, counted for ever in a file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import structlog

from domain import wire
from gateway.messages import Message

NAMED = 10
"""So many machines are named in a log line; the file has them all."""

log = structlog.get_logger()


class Dropped:
    """``counts`` holds messages by serial number, or by topic where the convention is a foreign one."""

    def __init__(self, path: Path) -> None:
        self.counts = load(path)
        self._path = path

    def __call__(self, records: Iterable[bytes]) -> None:
        """Count records that are about to go, and say so in one line."""
        gone = Counter(_machine(Message.unpack(record).topic) for record in records)
        self.counts.update(gone)
        log.error("spool_dropped_oldest", messages=gone.total(), machines=len(gone), most=dict(gone.most_common(NAMED)))
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(self.counts))
            fresh.replace(self._path)
        except OSError as error:
            log.warning("dropped_counts_not_kept", why=error.strerror)


def load(path: Path) -> Counter[str]:
    """The counts kept at ``path``; none where there are none."""
    try:
        return Counter({str(name): int(count) for name, count in json.loads(path.read_text()).items()})
    except (OSError, ValueError, AttributeError):
        return Counter()


def _machine(topic: str) -> str:
    parts = topic.split("/")
    return parts[4] if topic.startswith(f"{wire.ROOT}/") and len(parts) > 4 else topic
