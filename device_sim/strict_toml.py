"""Reading TOML tables strictly: unknown keys, missing keys and unusable values are errors that name their place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from device_sim.faults import nearest
from domain.errors import InvalidError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
D = TypeVar("D", bound="DataclassInstance")


class Table:
    """A TOML table that knows its place, for messages."""

    def __init__(self, content: Mapping[str, Any], place: str) -> None:
        self.content, self.place = content, place

    def error(self, problem: str) -> InvalidError:
        """InvalidError that names this place."""
        return InvalidError("{place}: {problem}", place=self.place, problem=problem)

    def known(self, *keys: str) -> None:
        """Refuse every key but these, naming the nearest."""
        for key in self.content:
            if key not in keys:
                raise self.error(f"unknown key {key}{nearest(key, keys)}")

    def take(self, key: str, convert: Callable[[Any], T], default: T | object = MISSING) -> T:
        """The value of ``key`` through ``convert`` (bool, int, float, str insist on that type)."""
        if key not in self.content:
            if default is MISSING:
                raise self.error(f"{key} is missing")
            return cast(T, default)
        value = self.content[key]
        if convert is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(convert, type) and type(value) is not convert:
            raise self.error(f"{key} must be a {convert.__name__}, not {value!r}")
        try:
            return convert(value)
        except (ValueError, TypeError) as error:
            raise self.error(f"{key}: {error}") from error

    def fill(self, cls: type[D], **converters: Callable[[Any], Any]) -> D:
        """A flat dataclass of this table: fields that have a default may be absent; ``converters`` by field name."""
        defaults = {f.name: f.default for f in fields(cls)}
        self.known(*converters)
        return cls(**{key: self.take(key, convert, defaults[key]) for key, convert in converters.items()})

    def table(self, key: str) -> Table:
        """A table below; absent = empty."""
        content = self.content.get(key, {})
        if not isinstance(content, dict):
            raise self.error(f"{key} must be a table")
        return Table(content, f"{self.place}: {key}")

    def tables(self, key: str) -> list[Table]:
        """An array of tables below; absent = none."""
        content = self.content.get(key, [])
        if not isinstance(content, list) or not all(isinstance(t, dict) for t in content):
            raise self.error(f"{key} must be an array of tables: [[{key}]]")
        return [Table(t, f"{self.place}: {key} {k + 1}") for k, t in enumerate(content)]


def span(text: Any) -> float:
    """Seconds of H:MM:SS; raises ValueError."""
    match = re.fullmatch(r"(\d+):([0-5]\d):([0-5]\d)", text) if isinstance(text, str) else None
    if not match:
        raise ValueError(f'must be a time such as "0:05:00", not {text!r}')
    return int(match[1]) * 3600.0 + int(match[2]) * 60.0 + int(match[3])


def spans(texts: Any) -> tuple[float, ...]:
    """Seconds of each H:MM:SS of a list; raises ValueError or TypeError."""
    if not isinstance(texts, list):
        raise TypeError('must be a list of times such as ["0:05:00"]')
    return tuple(span(text) for text in texts)


def moment(given: Any) -> datetime:
    """Aware UTC of a TOML date-time that has an offset; raises ValueError."""
    if not isinstance(given, datetime) or given.tzinfo is None:
        raise ValueError("must be a date and time with its offset, such as 2026-01-14T05:00:00+08:00")
    return given.astimezone(UTC)
