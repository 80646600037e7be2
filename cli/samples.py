"""What a user hands in: sample files (CSV) and model cards (a catalogue key, or TOML)."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping
from math import isfinite
from pathlib import Path

import typer

from domain.catalogue.model import Channel, ModelCard, card_from_mapping
from domain.catalogue.registry import EQUIPMENT, card_of
from domain.errors import InvalidError
from domain.readings import Reading, Value

_FLAGS = {"0": False, "1": True, "false": False, "true": True}
WHOLE = re.compile(r"[+-]?[0-9]{1,20}\Z")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\Z")
"""Plain numbers only: Python also takes 1_000 and the digits of every script."""
_SERVICE = frozenset(("ts", "boot", "seq", "backfill", "serial", "simulated"))


def read_samples(path: Path, equipment_type: str, *, serial: str = "sample") -> list[Reading]:
    """The samples of a CSV file in the order of its rows, one reading a row; a file with only a header has none.

    Header ``ts`` (whole ms) and channels by name, optionally ``boot`` and ``seq``; blank = absent; quality is ok
    throughout. A value out of its channel's range stands in ``rejected``, as on the wire. Columns that are no channels are left
    out with a note on stderr.
    Raises InvalidError, naming the line, for what cannot be read.
    """
    channels = _equipment_channels(equipment_type)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = [name.strip() for name in next(rows, [])]
            if not header or header[0] != "ts":
                raise InvalidError("{path}: the first column of the header must be ts", path=path)
            doubled = {name for name in header if header.count(name) > 1}
            if doubled:
                raise InvalidError("{path}: column {name} is there twice", path=path, name=min(doubled))
            strangers = [name for name in header if name not in channels and name not in _SERVICE]
            readings = [
                _reading(header, row, channels, Reading(serial, equipment_type, 0, {}), f"{path}:{rows.line_num}")
                for row in rows
                if any(cell.strip() for cell in row)
            ]
            if strangers:
                names = ", ".join(strangers)
                typer.echo(f"brewair: {path}: no channel of {equipment_type}, left out: {names}", err=True)
            return readings
    except OSError as error:
        raise InvalidError("{path} cannot be read: {reason}", path=path, reason=error.strerror) from None
    except UnicodeDecodeError:
        raise InvalidError("{path} is not UTF-8 text", path=path) from None
    except csv.Error as error:
        raise InvalidError("{path} is not a CSV file: {reason}", path=path, reason=error) from None


def given_card(equipment_type: str, model: str | None, card: Path | None) -> ModelCard:
    """The card of ``--model`` or of ``--card`` (TOML); raises InvalidError or NotFoundError with one line that says why."""
    _equipment_channels(equipment_type)
    if (model is None) == (card is None):
        raise InvalidError("Give either --model or --card")
    if model is not None:
        return card_of(equipment_type, model)
    assert card is not None
    try:
        return card_from_mapping(tomllib.loads(card.read_text(encoding="utf-8")), equipment_type=equipment_type)
    except OSError as error:
        raise InvalidError("{path} cannot be read: {reason}", path=card, reason=error.strerror) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidError("{path} is not TOML: {reason}", path=card, reason=error) from None


def _equipment_channels(equipment_type: str) -> Mapping[str, Channel]:
    if equipment_type not in EQUIPMENT:
        raise InvalidError(
            "No equipment type {type}; there are {known}", type=equipment_type, known=", ".join(EQUIPMENT)
        )
    return EQUIPMENT[equipment_type].channels


def _reading(header: list[str], row: list[str], channels: Mapping[str, Channel], blank: Reading, where: str) -> Reading:
    if len(row) > len(header):
        raise InvalidError("{where}: more values than columns", where=where)
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=False) if cell.strip()}
    values: dict[str, Value] = {}
    rejected: dict[str, float] = {}
    for name, cell in cells.items():
        channel = channels.get(name)
        if channel is None:
            continue
        if channel.kind == "str":
            values[name] = cell
        elif channel.kind == "bool":
            values[name] = _flag(name, cell, where)
        else:
            number = _number(name, cell, where)
            inside = (channel.low is None or number >= channel.low) and (channel.high is None or number <= channel.high)
            (values if inside else rejected)[name] = number
    return Reading(
        blank.serial, blank.type, _whole("ts", cells.get("ts", ""), where), values,
        boot=cells.get("boot"), seq=_whole("seq", cells["seq"], where) if "seq" in cells else None,
        rejected=rejected,
    )  # fmt: skip


def _flag(name: str, cell: str, where: str) -> bool:
    flag = _FLAGS.get(cell.lower())
    if flag is None:
        raise InvalidError("{where}: {name} must be 0, 1, true or false, not {cell}", where=where, name=name, cell=cell)
    return flag


def _number(name: str, cell: str, where: str) -> float:
    number = float(cell) if NUMBER.match(cell) else float("nan")
    if not isfinite(number):
        raise InvalidError("{where}: {name} must be a number, not {cell}", where=where, name=name, cell=cell)
    return number


def _whole(name: str, cell: str, where: str) -> int:
    if WHOLE.match(cell):
        return int(cell)  # by way of float, digits beyond the 15th would be lost
    number = _number(name, cell, where)
    if not number.is_integer():
        raise InvalidError("{where}: {name} must be whole, not {cell}", where=where, name=name, cell=cell)
    return int(number)
