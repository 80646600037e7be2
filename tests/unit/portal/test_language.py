"""Every text that a reader may see has a Chinese translation, and both say the same values."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from domain.catalogue.plans import CAUSES, FAULTS, MEASURES, PLANS
from domain.catalogue.rules import FAMILIES, RULE_LABELS
from domain.desk.intake import REPORTED_FAMILY
from domain.errors import IllegalTransitionError, InvalidError
from domain.tickets.states import ACTIONS, KIND_LABELS, STATES, Kind
from domain.verification.reasons import FORMS
from portal.labels import CRITERIA, FAMILY_ICON, LABELS, subject
from portal.language import LOCALE_FOLDER, Message, Speaker, load_catalogue, masked_phone
from portal.navigation import NAVIGATION

ROOT = Path(__file__).parents[3]
SHANGHAI = ZoneInfo("Asia/Shanghai")
MARKED = {
    "_": 0,
    "Message": 0,
    "Reason": 0,
    "notify": 3,
    "_pattern": 1,
    "_chosen": 1,
    **{
        f"{name}Error": 0
        for name in (
            "Refused", "Invalid", "NotFound", "Forbidden", "Conflict", "IllegalTransition", "Unavailable",
            "LogInNeeded", "TooManyAttempts", "Forgery",
        )
    },
}  # fmt: skip
"""Call → the position of its message id."""
PYTHON = ("portal", "domain/desk", "domain/tickets", "domain/store", "domain/telemetry")


def in_python(path: Path) -> Iterator[tuple[str, int]]:
    """Message ids of a module, with their lines; of a choice between two texts, both."""
    for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
        name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
        if name in MARKED and len(call.args) > MARKED[name]:
            argument = call.args[MARKED[name]]
            for text in (argument.body, argument.orelse) if isinstance(argument, ast.IfExp) else (argument,):
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield text.value, call.lineno


def message_ids() -> dict[str, str]:
    """Every message id of portal, desk and stores → where it stands."""
    found: dict[str, str] = {}
    for folder in PYTHON:
        for path in (ROOT / folder).rglob("*.py"):
            found |= {text: f"{path.relative_to(ROOT)}:{line}" for text, line in in_python(path)}
    templates = extract_from_dir(
        ROOT / "portal/templates", [("**.html", "jinja2.ext:babel_extract")], keywords={"_": None}
    )
    for name, line, message, _comments, _context in templates:
        found[message if isinstance(message, str) else message[0]] = f"{name}:{line}"
    tables = [
        *(facts.label for facts in STATES.values()),
        *(facts.public for facts in STATES.values()),
        *(facts.label for facts in ACTIONS.values()),
        *KIND_LABELS.values(),
        *RULE_LABELS.values(),
        *FORMS.values(),
        *(label.text for table in LABELS.values() for label in table.values()),
        *(text for item in NAVIGATION for text in (item.label, item.group)),
        *guard_refusals(),
    ]
    return {**dict.fromkeys(tables, "a table of labels"), **found}


def guard_refusals() -> Iterator[str]:
    """What the guards of the ticket table say: the texts that their functions return."""
    tree = ast.parse((ROOT / "domain/tickets/states.py").read_text())
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        for node in ast.walk(function):
            if isinstance(node, ast.Return):
                yield from (
                    part.value
                    for part in ast.walk(node)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                )


def placeholders(text: str) -> set[str]:
    """Names in braces."""
    return {name for _literal, name, _spec, _conversion in string.Formatter().parse(text) if name}


def test_every_message_id_has_a_chinese_text() -> None:
    chinese = load_catalogue("zh_CN")
    missing = {text: place for text, place in message_ids().items() if text and chinese.gettext(text) == text}
    # A text that is the same in both languages says so in a catalogue.
    missing = {text: place for text, place in missing.items() if text not in same_in_both()}
    assert not missing, "\n" + "\n".join(f"{place}: {text!r}" for text, place in sorted(missing.items()))


def is_chinese(text: str) -> bool:
    """Whether a text has a Chinese character."""
    return any("\u4e00" <= letter <= "\u9fff" for letter in text)


def test_the_catalogue_names_everything_in_both_languages() -> None:
    chinese = load_catalogue("zh_CN")
    named = [
        *CRITERIA.values(), *PLANS.values(), *FAULTS.values(), *CAUSES.values(), *MEASURES.values(),
        *(entry for plan in PLANS.values() for entry in plan.entries),
    ]  # fmt: skip
    for thing in named:
        assert is_chinese(thing.name_zh) or thing.name_zh == thing.name_en == "CO₂", thing
        assert thing.name_en, thing
        assert not is_chinese(thing.name_en), thing
    assert {key: chinese.gettext(family.en) for key, family in FAMILIES.items()} == {
        key: family.zh for key, family in FAMILIES.items()
    }


@dataclass(frozen=True)
class About:
    """What a title is made of."""

    kind: str
    family: str


@pytest.mark.parametrize("locale", ["zh_CN", "en"])
def test_no_ticket_shows_a_raw_key(locale: str) -> None:
    say = Speaker(locale, SHANGHAI).text
    keys = {*FAMILIES, *Kind, REPORTED_FAMILY, "", "a family of former times"}
    assert set(FAMILY_ICON) == set(FAMILIES)
    for kind in Kind:
        for family in keys:
            said = say(subject(About(kind.value, family)).text)
            assert said
            assert said not in keys
            assert (locale == "en") == said.isascii()
    assert say(subject(About("repair", REPORTED_FAMILY)).text) in ("客户报修", "Customer report")
    assert say(subject(About("maintenance", "maintenance")).text) == say(KIND_LABELS[Kind.MAINTENANCE])


def same_in_both() -> set[str]:
    """Ids that a catalogue translates by themselves, on purpose (names, units)."""
    same: set[str] = set()
    for path in (LOCALE_FOLDER / "zh_CN").glob("*.po"):
        with path.open("rb") as stream:
            same |= {message.id for message in read_po(stream) if message.id == message.string}
    return same


def test_extraction_sees_templates_python_errors_notices_and_guards() -> None:
    found = message_ids()
    for text in (
        "Open tickets by state, the nearest deadline first",
        "This form is out of date; load the page again and repeat",
        "Too many attempts; try again in {minutes} min",
        "There is no ticket {id}",
        "Same region: {region}",
        "The test run is still being measured",
    ):
        assert text in found


@pytest.mark.parametrize("path", sorted((LOCALE_FOLDER / "zh_CN").glob("*.po")), ids=lambda path: path.name)
def test_translations_keep_the_placeholders(path: Path) -> None:
    with path.open("rb") as stream:
        catalogue = read_po(stream, abort_invalid=True)
    wrong = [
        message.id
        for message in catalogue
        if message.id
        and (message.fuzzy or not message.string or placeholders(message.id) != placeholders(message.string))
    ]
    assert wrong == []


def test_two_files_may_not_translate_one_id_differently(tmp_path: Path) -> None:
    (tmp_path / "zh_CN").mkdir()
    header = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'
    (tmp_path / "zh_CN" / "a.po").write_text(f'{header}msgid "Close"\nmsgstr "关闭"\n')
    (tmp_path / "zh_CN" / "b.po").write_text(f'{header}msgid "Close"\nmsgstr "结单"\n')
    with pytest.raises(ValueError, match=r"b\.po translates 'Close' differently"):
        load_catalogue("zh_CN", tmp_path)


def test_an_error_is_said_with_its_values_and_labels_translated() -> None:
    chinese = Speaker("zh_CN", SHANGHAI)
    error = IllegalTransitionError("A ticket that is '{state}' cannot '{action}'", state="Closed", action="Assign")
    said = chinese.text(error)
    assert "已完成" in said
    assert "派工" in said
    assert Speaker("en", SHANGHAI).text(error) == str(error) == "A ticket that is 'Closed' cannot 'Assign'"
    assert (
        Speaker("en", SHANGHAI).text(InvalidError("Please fill in this field", field="x"))
        == "Please fill in this field"
    )


def test_a_value_with_braces_is_not_read_as_a_placeholder() -> None:
    assert Speaker("en", SHANGHAI).text(Message("There is no machine {serial}", serial="{id}")).endswith("{id}")


def test_times_are_shown_in_the_local_zone() -> None:
    moment = datetime(2026, 3, 9, 17, 5, 7, tzinfo=UTC)
    assert Speaker("zh_CN", SHANGHAI).full_moment(moment) == "2026年3月10日 01:05:07"
    assert Speaker("en", SHANGHAI).moment(moment) == "10 Mar 01:05"
    assert Speaker("en", SHANGHAI).moment(None) == "–"


@pytest.mark.parametrize(
    ("length", "zh", "en"),
    [
        (timedelta(hours=3, minutes=20, seconds=9), "3小时20分", "3 h 20 min"),
        (timedelta(days=2, minutes=1), "2天1分", "2 d 1 min"),
        (45.4, "45秒", "45 s"),
        (-90, "1分30秒", "1 min 30 s"),
        (0, "0秒", "0 s"),
        (None, "–", "–"),
    ],
)
def test_spans(length: timedelta | float | None, zh: str, en: str) -> None:
    assert Speaker("zh_CN", SHANGHAI).span(length) == zh
    assert Speaker("en", SHANGHAI).span(length) == en


def test_figures_have_no_more_digits_than_asked() -> None:
    assert Speaker("zh_CN", SHANGHAI).figure(5890.25) == "5,890.2"
    assert Speaker("en", SHANGHAI).figure(214.0, 2) == "214"
    assert Speaker("en", SHANGHAI).share(0.934) == "93%"


@pytest.mark.parametrize(("phone", "shown"), [("13912345678", "139****5678"), ("", "–"), ("12345", "***45")])
def test_phone_numbers_are_masked(phone: str, shown: str) -> None:
    assert masked_phone(phone) == shown
