"""The judge's reasons in the reader's language: by key and figures, as they are sealed with a verdict.

Verdicts that were sealed before reasons had keys hold finished English sentences alone. A sentence that fits a known form
becomes a message with its figures as parameters; parts are read one by one: ``key: reason``, and halves joined by a semicolon.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from domain.catalogue.plans import PLANS
from domain.catalogue.rules import RULE_LABELS
from domain.verification.reasons import FORMS
from portal.charts import CHANNEL_LABELS
from portal.labels import CRITERIA
from portal.language import Message, _
from portal.names import name_in

OLD_FORMS: tuple[str, ...] = (
    _("The machine's clock jumped during the run"),
    _("Too few samples of {channel}: {count} of {expected} expected"),
    _("Too few samples: {count} of {expected} expected"),
    _("The card has no {field} at level {level}"),
    _("The card has no {field} at an unreported level"),
    _("Frozen within {range} K for the whole rest phase"),
    _("Too little fan power at level {level} without the heater"),
    _("Too little fan power at an unreported level without the heater"),
    _("Median {value} W at level {level}, limits {low}…{high} W"),
    _("Median {value} W at an unreported level, limits {low}…{high} W"),
    _("Median {value} rpm at level {level}, limits {low}…{high}"),
    _("Median {value} rpm at an unreported level, limits {low}…{high}"),
    _("Median {value} m³/h at level {level}, at least {low}"),
    _("Median {value} m³/h at an unreported level, at least {low}"),
    _("Median {value} Pa at rated flow, limits {low}…{high}"),
    _("Median {value} Pa uncorrected, limits {low}…{high}"),
    _("The {sensor} sensor has not moved for {seconds} s"),
)
"""Sentences of verdicts that were sealed before a reason had a key, and that the judge no longer says."""
GLUE = ("criterion", "also", "list", "entered")
"""Forms that only put others together; the reading of old text does that by itself."""
REASONS: tuple[str, ...] = (*OLD_FORMS, *(form for key, form in FORMS.items() if key not in GLUE))
"""Every form an old text may have, ``{placeholders}`` for figures and names."""

SYSTEM = (
    _("The finding is a real fault"),
    _("Not accepted in time"),
    _("The machine has been normal for 3 minutes"),
    _("In dirty air the unit does not do what it should"),
)
"""What brewair gives as the reason for its own actions."""
JOINTS = {"; ": _("{first}; {second}"), ", ": _("{first}, {second}")}
NESTED = ("reason", "what")
ENTRY = "entry"
FINDING = re.compile(r"(R\d\d) (P\d)(?: \w+)?")


@cache
def _forms() -> tuple[tuple[re.Pattern[str], str], ...]:
    # A form of many words is tried before one of few, or '{low}…{high} ppm' would take what is meant for a longer one.
    by_length = sorted(REASONS, key=lambda form: len(re.sub(r"\{\w+\}", "", form)), reverse=True)
    return tuple((re.compile(_pattern(form)), form) for form in by_length)


def _pattern(form: str) -> str:
    parts = re.split(r"\{(\w+)\}", form)
    return "".join(re.escape(part) if index % 2 == 0 else f"(?P<{part}>.+?)" for index, part in enumerate(parts))


@cache
def _entries() -> dict[str, tuple[str, str]]:
    return {entry.name_en: (entry.name_zh, entry.name_en) for plan in PLANS.values() for entry in plan.entries}


def reason_message(said: Mapping[str, Any] | None, text: str, locale: str = "en") -> Message:
    """The message of a sealed reason; ``text``, its English sentence, serves where there is no key or none that is known."""
    if not said or said.get("key") not in FORMS:
        return read_reason(text, locale)
    figures = {name: _figure(name, value, locale) for name, value in said["figures"].items()}
    return Message(FORMS[said["key"]], **figures)


def _figure(name: str, value: str | Mapping[str, Any], locale: str) -> str | Message:
    if not isinstance(value, str):
        return reason_message(value, "", locale)
    if name == "name" and value in CRITERIA:
        return name_in(CRITERIA[value], locale)
    return _part(name, value, locale) if name not in NESTED else value


def read_reason(text: str, locale: str = "en") -> Message:
    """The message behind a finished sentence; what fits no form is said as it stands."""
    return _read(text, locale) or Message(text)


def _read(text: str, locale: str) -> Message | None:
    key, colon, rest = text.partition(": ")
    if colon and key in CRITERIA:
        return Message(_("{name}: {reason}"), name=name_in(CRITERIA[key], locale), reason=read_reason(rest, locale))
    for pattern, form in _forms():
        found = pattern.fullmatch(text)
        if found and ";" not in "".join(found.groups()):
            return Message(form, **{name: _part(name, value, locale) for name, value in found.groupdict().items()})
    for mark, joined in JOINTS.items():
        head, found_mark, tail = text.partition(mark)
        if found_mark:
            return Message(joined, first=read_reason(head, locale), second=read_reason(tail, locale))
    return None


def _part(name: str, value: str, locale: str) -> str | Message:
    if name in NESTED:
        return read_reason(value, locale)
    if name == "channel":
        return CHANNEL_LABELS.get(value, value)
    if name == ENTRY:
        zh, en = _entries().get(value.partition(":")[0], (value, value))
        return zh if locale.startswith("zh") else en
    if name == "finding" and (found := FINDING.fullmatch(value)):
        rule, severity = found.groups()
        return Message(_("{rule} {severity} {label}"), rule=rule, severity=severity, label=RULE_LABELS.get(rule, rule))
    return value
