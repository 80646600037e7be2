"""Every sentence that the judge can give as a reason: key → English form with ``{figures}``.

A reason is its key and its figures and is sealed as such, beside the English text; the portal says it in the reader's language
by the key. A key once sealed keeps its meaning and its figures: what should say something else gets a key of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domain.verdicts import Reason

FORMS: Mapping[str, str] = {
    # the run as a whole
    "all_fulfilled": "All criteria are fulfilled",
    "ended_by_person": "The run was ended by a person before its verdict",
    "before_2000": "Bad clock: {count} samples are dated before 2000",
    "simulated": "{count} samples are simulated and this is not a demo site",
    "clock_backwards": "Bad clock: the device time runs backwards",
    "clock_leaps": "Bad clock: the device time jumps ahead of the time of receipt",
    "clock_skew": "The device clock is {shift} s off; the time of receipt is used",
    "restarted": "A stop or a silence of more than 60 s restarted the count",
    "net_active": "{done} s of {wanted} s net active time",
    "not_seen": "Not seen yet: {what}",
    "hold_s": "hold_s {count}",
    "cycles": "cycles {count}",
    "grinds": "grinds {count}",
    "fills": "fills {count}",
    "interval": "Sampled every {interval} s, at most 10 s allowed",
    "coverage": "Coverage {share}, {needed} needed",
    "too_few_of": "Too few samples of {channel}: {count}, at least {needed} needed",
    "no_dirty_air": "There were no 2 h of dirty air that could be judged",
    "came_back": "The fault came back during the probation",
    # how reasons are put together
    "criterion": "{name}: {reason}",
    "also": "{first}; {second}",
    "list": "{first}, {second}",
    "out_so_far": "Out of limits so far: {reason}",
    # either type
    "too_few": "Too few samples: {count}, at least {needed} needed",
    "site_supply": "Site supply: {reason}",
    "volts": "{low}…{high} V, limits {least}…{most} V",
    "no_alarm": "No alarm",
    "raised": "{finding} was raised",
    "not_entered": "Not entered: {entry}",
    "not_in_order": "Not in order: {entry}",
    "in_order": "In order: {entry}",
    "number_wanted": "A number is wanted: {entry}",
    "entered": "{entry}: {value} {unit}",
    "no_baseline": "no baseline of this unit, that half is left out",
    "no_card_value": "The card has no {field}",
    "no_card_value_at": "The card has no {field} {at}",
    "level": "at level {level}",
    "unreported_level": "at an unreported level",
    # soy-milk machines
    "heating_seen": "{seen} s of heating seen, {needed} s needed",
    "heating_below": "{seen} s of heating below {temp} °C, {needed} s needed",
    "heating_power": "Median {value} W normalised, limits {low}…{high} W",
    "heater_dips": "{share} of heater-on time below {watt} W, {allowed} allowed",
    "three_currents": "Not enough heating with all three currents",
    "phase_balance": "Median {value} % between the phases, at most {high} %",
    "no_grind": "No grind of at least {needed} s yet",
    "grind_power": "Median {value} W, limits {low}…{high} W",
    "percentile_99": "99th percentile {value} W",
    "grinds_seen": "{count} grinds of at least {seconds} s, {needed} needed",
    "grind_samples": "Not enough samples in the first or the last grind",
    "grind_drift": "{drift} % from the first grind ({first} W) to the last ({last} W)",
    "volume_unknown": "The volume is unknown: no fill was seen whole before this heat",
    "heat_rate": "{rate} K/min, {expected} K/min expected: {ratio}, limits {low}…{high}",
    "no_probe": "No temperature probe: the boil cannot be seen",
    "boil_hold": "{seen} s at {temp} °C and above, {needed} s needed",
    "no_electrode": "The electrode has not reported yet",
    "trips": "{count} trips, {allowed} allowed",
    "no_fill": "No fill has been seen from beginning to end",
    "fill_rate": "{value} L/min, at least {low}",
    "fill_not_whole": "the volume is unknown: no fill was seen whole",
    "batch_incomplete": "the batch is not complete yet",
    "no_target": "no target volume is known",
    "other_fill_unknown": "the volume of another fill is unknown",
    "volume": "{value} L, target {target} L",
    "no_rest": "The rest phase has not begun",
    "rest_so_far": "{seconds} s of rest so far",
    "rest_samples": "Not enough samples of the water in the rest phase",
    "leak": "Median {value} L/min and {total} L in {seconds} s with the valve shut",
    "not_reached": "Not reached in this run",
    "keep_warm": "Lowest {value} °C, at least {low} °C",
    "rest_short": "The rest phase is shorter than the last 60 s",
    "no_standby": "Not in standby for the last 60 s",
    "standby_power": "Median {value} W over the last 60 s, at most {high} W",
    "probe_silent": "The probe has not reported yet",
    "jump": "Jump of more than {step} K",
    "frozen_heating": "Frozen within {range} K for {seconds} s of heating",
    "rest_not_over": "The rest phase is not over",
    "rest_moved": "Moved by {span} K in the rest phase, more than {needed} K needed",
    # fresh-air units
    "no_level": "No level has run for {needed} s yet",
    "level_unreported": "The level is not reported: {reason}",
    "level_short": "Level {level} was shown, but not for {needed} s",
    "fan_power_short": "{seconds} s of fan power {at} without the heater, {needed} s needed",
    "fan_power": "Median {value} W {at}, limits {low}…{high} W",
    "unsteady": "Unsteady: varies by {share} %, {allowed} % allowed",
    "fan_speed": "Median {value} rpm {at}, limits {low}…{high}",
    "varies": "varies by {share} %",
    "starved": "Below {share} of the level's airflow for {seconds} s",
    "airflow": "Median {value} m³/h {at}, at least {low}",
    "pressure": "Median {value} Pa {how}, limits {low}…{high} Pa",
    "pressure_least": "Median {value} Pa {how}, at least {low} Pa",
    "at_rated_flow": "at rated flow",
    "uncorrected": "uncorrected",
    "no_pair": "PM2.5 is not measured before and after the filter",
    "room_sensor": "The second PM2.5 sensor is in the room, not in the supply air",
    "clean_air": "Clean air: intake {value} µg/m³, {needed} needed",
    "efficiency": "{value} at {intake} µg/m³ intake, at least {low}",
    "weak": "weak check",
    "one_side": "PM2.5 is measured on one side only",
    "settled": "{seconds} s of settled running needed",
    "supply_pm25": "Median {value} µg/m³, at most {high}",
    "target": "target {value}",
    "intake_frozen": "The intake sensor has not moved for {seconds} s",
    "supply_frozen": "The supply sensor has not moved for {seconds} s",
    "each_sensor": "{seconds} s of each sensor, {needed} s needed",
    "no_pm_sensor": "No PM2.5 sensor has reported yet",
    "moved": "The stiller sensor moved by {value} µg/m³",
    "co2": "{low}…{high} ppm",
    "supply_temp": "{value} °C, limits {low}…{high} °C",
    "supply_temps": "{coldest}…{warmest} °C, limits {low}…{high} °C",
    "heater_lifts": "heater lifts it by {rise} K, at least {low} K",
    "heater_seconds": "{seconds} s with the heater on and both temperatures",
    "not_long_enough": "Known when the run is long enough",
    "thirds_unusable": "Too few samples in the first or the last third",
    "fan_drift": "{drift} % from the first third to the last, {allowed} % allowed",
    "no_counter": "The counter has not reported yet",
    "filter_life": "{value} %, {low} % after a reset",
}


def say(key: str, **figures: str | Reason) -> Reason:
    """The reason of that key; a test holds every call against the forms."""
    return Reason(key, figures)


def also(first: Reason, second: Reason) -> Reason:
    """Both, one after the other."""
    return say("also", first=first, second=second)


def listed(reasons: Sequence[Reason]) -> Reason:
    """All of them, as a list; at least one."""
    *before, last = reasons
    return say("list", first=listed(before), second=last) if before else last


def in_english(reason: Reason) -> str:
    """The finished sentence. Raises KeyError for an unknown key or a missing figure."""
    figures = {name: in_english(part) if isinstance(part, Reason) else part for name, part in reason.figures.items()}
    return FORMS[reason.key].format(**figures)
