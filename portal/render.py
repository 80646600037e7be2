"""Templates to answers: one URL, one view, two bodies.

A page's template has named blocks, each inside the element whose id is the block's name. A browser gets the whole page; htmx
gets the block named by the element it will fill (``HX-Target``), ``content`` where the template has no such block. The view
object is filtered by permission before it comes here, so a block asked for alone shows nothing that the page would not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.environment import TemplateModule

from domain.errors import SettingsError
from portal.labels import CRITERIA, label, subject
from portal.language import HTML_LANGUAGES, LANGUAGES, Message, Speaker, masked_phone
from portal.navigation import NavigationItem
from portal.permissions import Permission

HERE = Path(__file__).parent
STATIC = HERE / "static"
CONTENT = "content"


class View(Protocol):
    """A page's view: any frozen dataclass. It is what the template knows besides the shell."""

    __dataclass_fields__: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Notice:
    """A toast: what to say and how (``good``, ``bad``, ``info``)."""

    message: Message
    tone: str = "good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """What every page shows around its content. ``demo_factor`` is None where business time is the wall's."""

    path: str
    query: str
    locale: str
    user_name: str = ""
    roles: tuple[str, ...] = ()
    granted: frozenset[Permission] = frozenset()
    csrf: str = ""
    navigation: tuple[NavigationItem, ...] = ()
    active: str = ""
    now: datetime
    demo_factor: float | None = None
    utc_offset_s: int = 0
    notices: tuple[Notice, ...] = ()
    paths: Collection[str] = ()

    @property
    def languages(self) -> Mapping[str, str]:
        """Locale → name, for the switch."""
        return LANGUAGES

    @property
    def navigation_groups(self) -> Mapping[str, list[NavigationItem]]:
        """Group's label → its entries, in the table's order."""
        groups: dict[str, list[NavigationItem]] = {}
        for item in self.navigation:
            groups.setdefault(item.group, []).append(item)
        return groups

    @property
    def html_language(self) -> str:
        """The ``lang`` attribute."""
        return HTML_LANGUAGES[self.locale]

    def may(self, permission: str) -> bool:
        """Whether the reader has a right; only for links to other pages, never to hide data."""
        return permission in self.granted


@dataclass(frozen=True, slots=True)
class Form:
    """A form as the page shows it: what was typed, and what is wrong beside which field ('' = with the whole form)."""

    values: Mapping[str, str]
    errors: Mapping[str, Message]

    @classmethod
    def blank(cls, **values: str) -> Form:
        """A fresh form, prefilled."""
        return cls(values, {})


class Assets:
    """Static files with their content's digest in the address, so that browsers may keep them for ever."""

    def __init__(self, folder: Path = STATIC) -> None:
        if not (folder / "vendor" / "versions.json").is_file():
            raise SettingsError(
                "The portal's front-end packages are not there; install brewair with pip, which fetches them"
            )
        self._digests = {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:12]
            for path in folder.rglob("*")
            if path.is_file()
        }

    def url(self, name: str) -> str:
        """Address of a static file; raises KeyError for one that is not there."""
        return f"/static/{name}?v={self._digests[name]}"

    def is_current(self, name: str, version: str | None) -> bool:
        """Whether ``version`` is the digest of the present content."""
        return version is not None and self._digests.get(name) == version


class Renderer:
    """One template environment per language."""

    def __init__(self, timezone: ZoneInfo, assets: Assets) -> None:
        self.assets = assets
        self.speakers = {locale: Speaker(locale, timezone) for locale in LANGUAGES}
        self._environments = {locale: self._environment(speaker) for locale, speaker in self.speakers.items()}

    def page(self, template: str, view: object, shell: Shell) -> str:
        """The whole page."""
        return self._environments[shell.locale].get_template(template).render(v=view, shell=shell)

    def fragment(self, template: str, view: object, shell: Shell, element_id: str) -> str:
        """The inside of the element, with the page's title where that is all the content, and the toasts."""
        environment = self._environments[shell.locale]
        page = environment.get_template(template)
        name = element_id if element_id in page.blocks else CONTENT
        parts = [_block(page, name, view, shell)]
        if name == CONTENT and "title" in page.blocks:
            parts.append(f"<title>{_block(page, 'title', view, shell)} · brewair</title>")
        parts.append(self.toasts(shell))
        return "".join(parts)

    def toasts(self, shell: Shell) -> str:
        """The notices alone, addressed to the page's toast area."""
        if not shell.notices:
            return ""
        return self._environments[shell.locale].get_template("toasts.html").render(v=None, shell=shell)

    def _environment(self, speaker: Speaker) -> Environment:
        environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            undefined=StrictUndefined,
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )

        def translate(message_id: str, **params: object) -> str:
            return speaker.text(Message(message_id, **params))

        environment.globals.update(
            _=translate,
            label=lambda key, table: label(key, table),
            asset=self.assets.url,
            timedelta=timedelta,
            zh=speaker.locale.startswith("zh"),
        )
        environment.filters.update(
            say=speaker.text,
            named=speaker.named,
            criterion_name=lambda key: speaker.named(CRITERIA[key]) if key in CRITERIA else str(key),
            moment=speaker.moment,
            full_moment=speaker.full_moment,
            day=speaker.day,
            clock_time=speaker.clock_time,
            figure=speaker.figure,
            share=speaker.share,
            span=speaker.span,
            hours_minutes=hours_minutes,
            masked_phone=masked_phone,
            label=label,
            subject=subject,
        )
        # Macros are a global, because a block that is rendered alone sees no import of its template.
        environment.globals["ui"] = _macros(environment)
        return environment


@cache
def renderer_for(timezone: ZoneInfo) -> Renderer:
    """The process's renderer: it holds nothing of a request, and compiling templates takes half a second."""
    return Renderer(timezone, Assets())


def hours_minutes(length: timedelta) -> str:
    """A span as a clock shows it, without sign: ``23:07``."""
    minutes = int(abs(length.total_seconds())) // 60
    return f"{minutes // 60}:{minutes % 60:02d}"


def _block(template: Template, name: str, view: object, shell: Shell) -> str:
    context = template.new_context({"v": view, "shell": shell})
    return "".join(template.blocks[name](context))


def _macros(environment: Environment) -> TemplateModule:
    return environment.get_template("components/ui.html").make_module()


def block_of(target: str) -> str:
    """The id in an ``HX-Target`` header (``div#board`` → ``board``)."""
    return target.partition("#")[2] or CONTENT
