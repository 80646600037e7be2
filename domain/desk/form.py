"""Reading the form of an action: what the table says it needs, with the field named where something is missing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime

from domain.errors import InvalidError
from domain.tickets.states import ACTIONS, Action

Form = Mapping[str, str]
ROW_ID = re.compile(r"[0-9]{1,9}\Z")
"""Not what ``isdigit`` takes: that has the digits of every script, and ², of which no number can be made."""


def checked(action: Action, form: Form) -> dict[str, str]:
    """The fields of ``action``, stripped; raises InvalidError naming the first required one that is empty."""
    rule = ACTIONS[action]
    values = {name: form.get(name, "").strip() for name in (*rule.fields, *rule.optional)}
    for name in rule.fields:
        if not values[name]:
            raise InvalidError("Please fill in this field", field=name)
    return values


def number(form: Form, field: str, *, low: float = 0.0, high: float = 1e6) -> float | None:
    """A number, None where empty; raises InvalidError."""
    text = form.get(field, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise InvalidError("'{text}' is not a number", field=field, text=text) from None
    if not low <= value <= high:
        raise InvalidError("Must be between {low} and {high}", field=field, low=low, high=high)
    return value


def identifier(form: Form, field: str) -> int:
    """A row's id; raises InvalidError."""
    text = form.get(field, "").strip()
    if not ROW_ID.match(text):
        raise InvalidError("Please choose one", field=field)
    return int(text)


def moment(form: Form, field: str) -> datetime | None:
    """An aware ISO time, None where empty; raises InvalidError."""
    text = form.get(field, "").strip()
    if not text:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidError("'{text}' is not a time", field=field, text=text) from None
    if value.tzinfo is None:
        raise InvalidError("The time needs a zone", field=field)
    return value


def day(form: Form, field: str) -> date | None:
    """An ISO date, None where empty; raises InvalidError."""
    text = form.get(field, "").strip()
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidError("'{text}' is not a date", field=field, text=text) from None
