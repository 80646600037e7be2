"""Texts in the reader's language: English message ids, Chinese catalogues, dates and figures by locale.

Every text in the code is an English gettext id; ``_`` and :class:`Message` only mark it, and the page translates when it is
shown. A catalogue is every ``portal/locale/<locale>/*.po`` merged, read at start; English needs none.
"""

from __future__ import annotations

import gettext
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from babel import dates, numbers
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from domain.desk.registry import mask_phone
from domain.errors import BrewairError

LOCALE_FOLDER = Path(__file__).parent / "locale"
LANGUAGES: Mapping[str, str] = {"zh_CN": "中文", "en": "English"}
"""Locale → its name in itself, in the order of the switch."""

HTML_LANGUAGES: Mapping[str, str] = {"zh_CN": "zh-Hans-CN", "en": "en"}


def _(message_id: str) -> str:
    """Marks a text for the catalogue; it is translated where it is shown."""
    return message_id


@dataclass(frozen=True, slots=True, init=False)
class Message:
    """A text to be said: an English id with named ``{placeholders}`` and their values."""

    message_id: str
    params: Mapping[str, object] = field(default_factory=dict)

    def __init__(self, message_id: str, /, **params: object) -> None:
        object.__setattr__(self, "message_id", message_id)
        object.__setattr__(self, "params", params)

    @classmethod
    def of(cls, error: BrewairError) -> Message:
        """What an error says."""
        return cls(error.message_id, **error.params)


def load_catalogue(locale: str, folder: Path = LOCALE_FOLDER) -> gettext.NullTranslations:
    """Translations of one locale from all its .po files; English (no folder) gives every id back.

    Raises ValueError when two files translate one id differently: which one wins must not be chance.
    """
    files = sorted((folder / locale).glob("*.po"))
    if not files:
        return gettext.NullTranslations()
    merged: Catalog | None = None
    for path in files:
        with path.open("rb") as stream:
            catalogue = read_po(stream, locale=locale, abort_invalid=True)
        if merged is None:
            merged = catalogue
            continue
        for message in catalogue:
            known = merged.get(message.id, message.context) if message.id else None
            if known is not None and known.string and known.string != message.string:
                raise ValueError(f"{path.name} translates {message.id!r} differently from another file")
            if message.id and known is None:
                merged[message.id] = message
    assert merged is not None
    compiled = io.BytesIO()
    write_mo(compiled, merged)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


class Named(Protocol):
    """Something of the catalogue: type, model card, criterion, plan, code."""

    @property
    def name_zh(self) -> str: ...

    @property
    def name_en(self) -> str: ...


class Speaker:
    """Says messages, times, spans and figures in one locale and time zone."""

    def __init__(self, locale: str, timezone: ZoneInfo, folder: Path = LOCALE_FOLDER) -> None:
        self.locale = locale
        self.timezone = timezone
        self.translations = load_catalogue(locale, folder)
        self._zh = locale.startswith("zh")

    def text(self, said: str | Message | BrewairError | None) -> str:
        """A message id or Message in this language, its placeholders filled in (those that are ids too are said first)."""
        if not said:
            return ""
        message = said if isinstance(said, Message) else Message.of(said) if isinstance(said, BrewairError) else None
        if message is None:
            return self.translations.gettext(str(said))
        template = self.translations.gettext(message.message_id)
        if not message.params:
            return template
        values = {key: self._said(value) for key, value in message.params.items()}
        return template.format(**values)

    def named(self, thing: Named | None) -> str:
        """The name of something of the catalogue, which has one in each language; '–' for none."""
        return "–" if thing is None else thing.name_zh if self._zh else thing.name_en

    def moment(self, when: datetime | None) -> str:
        """Date and minute in the local zone: ``11月23日 14:05``; '–' for none."""
        return self._dated(when, "M月d日 HH:mm", "d MMM HH:mm")

    def full_moment(self, when: datetime | None) -> str:
        """Date with year, and second."""
        return self._dated(when, "y年M月d日 HH:mm:ss", "d MMM y HH:mm:ss")

    def day(self, when: datetime | None) -> str:
        """Date with year."""
        return self._dated(when, "y年M月d日", "d MMM y")

    def clock_time(self, when: datetime | None) -> str:
        """Hour, minute and second in the local zone."""
        return self._dated(when, "HH:mm:ss", "HH:mm:ss")

    def figure(self, value: float | None, digits: int = 1) -> str:
        """A number with at most ``digits`` decimals; '–' for none."""
        if value is None:
            return "–"
        pattern = "#,##0" + ("." + "#" * digits if digits else "")
        return numbers.format_decimal(value, format=pattern, locale=self.locale)

    def share(self, value: float | None) -> str:
        """A share 0…1 as per cent without decimals; '–' for none."""
        return "–" if value is None else numbers.format_percent(value, locale=self.locale)

    def span(self, length: timedelta | float | None) -> str:
        """A length of time (timedelta or seconds) in its two largest units: ``3小时20分``, ``3 h 20 min``; '–' for none."""
        if length is None:
            return "–"
        seconds = round(abs(length.total_seconds() if isinstance(length, timedelta) else length))
        days, hours, minutes, rest = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60, seconds % 60
        units = ("天", "小时", "分", "秒") if self._zh else (" d", " h", " min", " s")
        parts = [f"{n}{unit}" for n, unit in zip((days, hours, minutes, rest), units, strict=True) if n][:2]
        return ("" if self._zh else " ").join(parts) or f"0{units[3]}"

    def _said(self, value: object) -> object:
        # A parameter may itself be an id (the label of a state, say); a name or a serial number stays what it is.
        return self.text(value) if isinstance(value, (str, Message)) else value

    def _dated(self, when: datetime | None, zh: str, en: str) -> str:
        if when is None:
            return "–"
        return dates.format_datetime(when, zh if self._zh else en, tzinfo=self.timezone, locale=self.locale)


def masked_phone(phone: str | None) -> str:
    """A phone number with its middle hidden, ``139****5678``; '–' for none."""
    return mask_phone(phone) if phone else "–"
