"""The judge's reasons in the reader's language.

The judge is pure and writes finished English sentences, which are stored as evidence. This table knows their forms; a sentence
that fits one becomes a message with its figures as parameters, so that it can be said in any language. Parts are read one by
one: ``key: reason``, and halves joined by a semicolon.
"""

from __future__ import annotations

import re
from functools import cache

from domain.catalogue.plans import PLANS
from domain.catalogue.rules import RULE_LABELS
from portal.labels import CRITERIA
from portal.language import Message, _
from portal.names import name_in

NET_ACTIVE = _("{done} s of {wanted} s net active time")
REASONS: tuple[str, ...] = (
    # the run as a whole
    _("All criteria are fulfilled"),
    _("The run was ended by a person before its verdict"),
    _("The machine's clock jumped during the run"),
    _("Bad clock: {count} samples are dated before 2000"),
    _("{count} samples are simulated and this is not a demo site"),
    _("Bad clock: the device time runs backwards"),
    _("Bad clock: the device time jumps ahead of the time of receipt"),
    _("The device clock is {shift} s off; the time of receipt is used"),
    NET_ACTIVE,
    _("Not seen yet: {what}"),
    _("hold_s {count}"),
    _("cycles {count}"),
    _("grinds {count}"),
    _("fills {count}"),
    _("Sampled every {interval} s, at most 10 s allowed"),
    _("Coverage {share}, {needed} needed"),
    _("Too few samples of {channel}: {count} of {expected} expected"),
    _("Too few samples: {count} of {expected} expected"),
    _("Out of limits so far: {reason}"),
    _("A stop or a silence of more than 60 s restarted the count"),
    # either type
    _("Site supply: {reason}"),
    _("{low}…{high} V, limits {least}…{most} V"),
    _("No alarm"),
    _("{finding} was raised"),
    _("Not entered: {entry}"),
    _("Not in order: {entry}"),
    _("In order: {entry}"),
    _("A number is wanted: {entry}"),
    _("no baseline of this unit, that half is left out"),
    _("The card has no {field} at level {level}"),
    _("The card has no {field} at an unreported level"),
    _("The card has no {field}"),
    # soy-milk machines
    _("{seen} s of heating seen, {needed} s needed"),
    _("{seen} s of heating below {temp} °C, {needed} s needed"),
    _("Median {value} W normalised, limits {low}…{high} W"),
    _("{share} of heater-on time below {watt} W, {allowed} allowed"),
    _("Not enough heating with all three currents"),
    _("Median {value} % between the phases, at most {high} %"),
    _("No grind of at least {needed} s yet"),
    _("Median {value} W, limits {low}…{high} W"),
    _("99th percentile {value} W"),
    _("{count} grinds of at least {seconds} s, {needed} needed"),
    _("Not enough samples in the first or the last grind"),
    _("{drift} % from the first grind ({first} W) to the last ({last} W)"),
    _("The volume is unknown: no fill was seen whole before this heat"),
    _("{rate} K/min, {expected} K/min expected: {ratio}, limits {low}…{high}"),
    _("No temperature probe: the boil cannot be seen"),
    _("{seen} s at {temp} °C and above, {needed} s needed"),
    _("The electrode has not reported yet"),
    _("{count} trips, {allowed} allowed"),
    _("No fill has been seen from beginning to end"),
    _("{value} L/min, at least {low}"),
    _("the volume is unknown: no fill was seen whole"),
    _("the batch is not complete yet"),
    _("no target volume is known"),
    _("the volume of another fill is unknown"),
    _("{value} L, target {target} L"),
    _("The rest phase has not begun"),
    _("{seconds} s of rest so far"),
    _("Not enough samples of the water in the rest phase"),
    _("Median {value} L/min and {total} L in {seconds} s with the valve shut"),
    _("Not reached in this run"),
    _("Lowest {value} °C, at least {low} °C"),
    _("The rest phase is shorter than the last 60 s"),
    _("Not in standby for the last 60 s"),
    _("Median {value} W over the last 60 s, at most {high} W"),
    _("The probe has not reported yet"),
    _("Jump of more than {step} K"),
    _("Frozen within {range} K for {seconds} s of heating"),
    _("Frozen within {range} K for the whole rest phase"),
    _("The rest phase is not over"),
    _("Moved by {span} K in the rest phase, more than {needed} K needed"),
    # fresh-air units
    _("No level has run for {needed} s yet"),
    _("The level is not reported: {reason}"),
    _("Level {level} was shown, but not for {needed} s"),
    _("Too little fan power at level {level} without the heater"),
    _("Too little fan power at an unreported level without the heater"),
    _("Median {value} W at level {level}, limits {low}…{high} W"),
    _("Median {value} W at an unreported level, limits {low}…{high} W"),
    _("Unsteady: varies by {share} %, {allowed} % allowed"),
    _("Median {value} rpm at level {level}, limits {low}…{high}"),
    _("Median {value} rpm at an unreported level, limits {low}…{high}"),
    _("varies by {share} %"),
    _("Below {share} of the level's airflow for {seconds} s"),
    _("Median {value} m³/h at level {level}, at least {low}"),
    _("Median {value} m³/h at an unreported level, at least {low}"),
    _("Median {value} Pa at rated flow, limits {low}…{high}"),
    _("Median {value} Pa uncorrected, limits {low}…{high}"),
    _("PM2.5 is not measured before and after the filter"),
    _("The second PM2.5 sensor is in the room, not in the supply air"),
    _("Clean air: intake {value} µg/m³, {needed} needed"),
    _("{value} at {intake} µg/m³ intake, at least {low}"),
    _("weak check"),
    _("PM2.5 is measured on one side only"),
    _("{seconds} s of settled running needed"),
    _("Median {value} µg/m³, at most {high}"),
    _("target {value}"),
    _("The {sensor} sensor has not moved for {seconds} s"),
    _("{seconds} s of each sensor, {needed} s needed"),
    _("No PM2.5 sensor has reported yet"),
    _("The stiller sensor moved by {value} µg/m³"),
    _("{low}…{high} ppm"),
    _("{value} °C, limits {low}…{high} °C"),
    _("{coldest}…{warmest} °C, limits {low}…{high} °C"),
    _("heater lifts it by {rise} K, at least {low} K"),
    _("{seconds} s with the heater on and both temperatures"),
    _("Known when the run is long enough"),
    _("{drift} % from the first third to the last, {allowed} % allowed"),
    _("The counter has not reported yet"),
    _("{value} %, {low} % after a reset"),
)
"""Every form, ``{placeholders}`` for figures and names; a test holds them against what the judge says."""

SYSTEM = (
    _("The finding is a real fault"),
    _("Not accepted in time"),
    _("The machine has been normal for 3 minutes"),
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
    if name == ENTRY:
        zh, en = _entries().get(value.partition(":")[0], (value, value))
        return zh if locale.startswith("zh") else en
    if name == "finding" and (found := FINDING.fullmatch(value)):
        rule, severity = found.groups()
        return Message(_("{rule} {severity} {label}"), rule=rule, severity=severity, label=RULE_LABELS.get(rule, rule))
    return value
