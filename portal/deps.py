"""What an endpoint gets: a :class:`Page` made by ``require(permission)``, and the router whose routes check form tokens.

A page endpoint is a plain ``def``. It opens its transaction itself (``page.read()`` or ``page.command()``), so that the commit
has happened before the answer leaves and a refused command has been rolled back before its form is shown again.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Header, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from sqlalchemy.orm import Session

from domain.clock import Clock, ScaledClock
from domain.desk.actor import Actor
from domain.errors import ForbiddenError, InvalidError, NotFoundError, RefusedError
from domain.settings import Settings
from domain.store.queries import tickets as ticket_queries
from domain.store.session import Sessions
from domain.store.tables import Ticket
from domain.telemetry.port import Telemetry
from domain.tickets.states import Role
from portal import render
from portal.auth import ForgeryError, LogInNeededError, Logins, User, same
from portal.language import LANGUAGES, Message
from portal.live import Live
from portal.navigation import here, home_of, navigation_for
from portal.permissions import Permission
from portal.render import Notice, Renderer, Shell

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LANGUAGE_COOKIE = "lang"
NOTICE_COOKIE = "notice"
YEAR_S = 365 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Portal:
    """Everything one portal process is made of; hangs on ``app.state.portal``."""

    settings: Settings
    clock: Clock
    sessions: Sessions
    telemetry: Telemetry
    logins: Logins
    renderer: Renderer
    live: Live
    paths: set[str] = field(default_factory=set)

    @property
    def secure(self) -> bool:
        """Whether people reach the portal over https, so that cookies may say so."""
        return self.settings.public_url.startswith("https:")

    @property
    def session_cookie(self) -> str:
        """Name of the log-in cookie; the prefix makes browsers bind it to this host."""
        return "__Host-brewair" if self.secure else "brewair"

    @property
    def visit_cookie(self) -> str:
        """Name of the cookie of somebody who is not logged in yet."""
        return "__Host-brewair-visit" if self.secure else "brewair-visit"

    def set_cookie(self, response: Response, name: str, value: str, max_age: int | None = None) -> None:
        """A cookie that scripts cannot read and other sites cannot send."""
        response.set_cookie(name, value, max_age=max_age, secure=self.secure, httponly=True, samesite="lax", path="/")


def portal_of(request: Request) -> Portal:
    """The portal that serves this request."""
    portal: Portal = request.app.state.portal
    return portal


def user_of(request: Request) -> User | None:
    """Who asks; looked up once per request."""
    if not hasattr(request.state, "user"):
        portal = portal_of(request)
        request.state.user = portal.logins.who(request.cookies.get(portal.session_cookie))
    user: User | None = request.state.user
    return user


def wants_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of the page; a restored history entry and a boosted link want the whole."""
    headers = request.headers
    return (
        headers.get("HX-Request") == "true"
        and headers.get("HX-History-Restore-Request") != "true"
        and headers.get("HX-Request-Type") != "full"
    )


class Page:
    """One request for a page: who asks, the stores, and the ways to answer."""

    def __init__(self, request: Request, user: User | None) -> None:
        self.request, self._user, self.portal = request, user, portal_of(request)
        self.now: datetime = self.portal.clock.now()
        """Business time of this request: the same for its command and for what it shows."""

    @property
    def user(self) -> User:
        """Who is logged in; raises LogInNeededError."""
        if self._user is None:
            raise LogInNeededError("Please log in")
        return self._user

    @property
    def csrf(self) -> str:
        """The form token of the session, '' for somebody who is not logged in."""
        return self._user.csrf if self._user else ""

    @property
    def actor(self) -> Actor:
        """The user as a giver of desk commands."""
        return Actor(self.user.name, frozenset(Role(role) for role in self.user.roles), self.user.id)

    @property
    def telemetry(self) -> Telemetry:
        """The time-series store."""
        return self.portal.telemetry

    @property
    def locale(self) -> str:
        """The reader's language: the address, then the switch, then the account, then the setting."""
        request = self.request
        chosen = (
            request.query_params.get("lang"),
            request.cookies.get(LANGUAGE_COOKIE),
            self._user.locale if self._user else "",
            self.portal.settings.locale,
        )
        return next(locale for locale in chosen if locale and locale in LANGUAGES)

    @property
    def wants_fragment(self) -> bool:
        """Whether the answer is a block, not a page."""
        return wants_fragment(self.request)

    def read(self) -> AbstractContextManager[Session]:
        """A read transaction."""
        return self.portal.sessions.read()

    def command(self) -> AbstractContextManager[Session]:
        """A write transaction, committed at the end of its block."""
        return self.portal.sessions.command()

    def say(self, said: str | Message) -> str:
        """A text in the reader's language, for what is not made by a template."""
        return self.portal.renderer.speakers[self.locale].text(said)

    def with_zone(self, text: str) -> str:
        """What a ``datetime-local`` input sends, with the portal's time zone; anything else comes back as it is."""
        try:
            typed = datetime.fromisoformat(text)
        except ValueError:
            return text
        return typed.replace(tzinfo=self.portal.settings.timezone).isoformat() if typed.tzinfo is None else text

    def ticket(self, session: Session, ticket_id: int) -> Ticket:
        """A ticket that the reader may see; raises NotFoundError alike for none and for somebody else's."""
        found = ticket_queries.ticket(session, ticket_id)
        if not may_see(self.user, found):
            raise NotFoundError("There is no ticket {id}", id=ticket_id)
        return found

    def show(
        self,
        template: str,
        view: object,
        *,
        status: int = 200,
        notice: Notice | None = None,
    ) -> Response:
        """The page, or its block for htmx. A refused form is shown again with ``status=status_of(error)``."""
        kept = self._kept_notices()
        shell = self.shell(notices=(*kept, *([notice] if notice else [])))
        renderer = self.portal.renderer
        if self.wants_fragment:
            element_id = render.block_of(self.request.headers.get("HX-Target", ""))
            body = renderer.fragment(template, view, shell, element_id)
        else:
            body = renderer.page(template, view, shell)
        response = HTMLResponse(body, status_code=status)
        if kept:
            response.delete_cookie(NOTICE_COOKIE, path="/")
        if self.request.query_params.get("lang") in LANGUAGES:
            self.portal.set_cookie(response, LANGUAGE_COOKIE, self.locale, YEAR_S)
        return response

    def go(self, url: str, notice: Message | None = None, tone: str = "good") -> Response:
        """After a command: on to ``url``, which shows the notice as a toast. htmx loads it into the page's content."""
        response: Response
        if wants_fragment(self.request):
            target = json.dumps({"path": url, "target": f"#{render.CONTENT}", "swap": "innerHTML show:top"})
            response = Response(status_code=200, headers={"HX-Location": target})
        else:
            response = RedirectResponse(url, status_code=303)
        if notice:
            self.portal.set_cookie(response, NOTICE_COOKIE, self._packed(Notice(notice, tone)), max_age=60)
        return response

    def shell(self, notices: tuple[Notice, ...] = ()) -> Shell:
        """What stands around the content."""
        user, clock = self._user, self.portal.clock
        granted = user.permissions if user else frozenset()
        navigation = navigation_for(granted, self.portal.paths)
        path = self.request.url.path
        return Shell(
            path=path,
            query=_query_without_language(self.request),
            locale=self.locale,
            user_name=user.name if user else "",
            roles=user.roles if user else (),
            granted=granted,
            csrf=user.csrf if user else "",
            navigation=navigation,
            active=here(navigation, path),
            now=self.now,
            demo_factor=clock.factor if isinstance(clock, ScaledClock) else None,
            utc_offset_s=round(_offset(self.now, self.portal.settings).total_seconds()),
            notices=notices,
            paths=self.portal.paths,
        )

    def home(self) -> str:
        """Where the reader's work begins."""
        return home_of(navigation_for(self.user.permissions, self.portal.paths))

    def _packed(self, notice: Notice) -> str:
        body = json.dumps([notice.tone, notice.message.message_id, dict(notice.message.params)], default=str)
        packed = base64.urlsafe_b64encode(body.encode()).decode()
        return f"{self.portal.logins.sign(packed)}.{packed}"

    def _kept_notices(self) -> tuple[Notice, ...]:
        signature, _, packed = self.request.cookies.get(NOTICE_COOKIE, "").partition(".")
        if not same(signature, self.portal.logins.sign(packed)):
            return ()
        try:
            tone, message_id, params = json.loads(base64.urlsafe_b64decode(packed))
        except (ValueError, binascii.Error):
            return ()
        return (Notice(Message(message_id, **params), tone),)


def may_see(user: User, ticket: Ticket) -> bool:
    """Whether a ticket is visible to somebody: all of them with the right, otherwise one's own."""
    if user.may(Permission.SEE_ALL_TICKETS):
        return True
    return user.may(Permission.SEE_TICKETS) and ticket.assignee_id == user.id


@dataclass(frozen=True, slots=True)
class Require:
    """The dependency behind :func:`require`; tests read ``permission`` off the routes."""

    permission: Permission

    def __call__(self, request: Request) -> Page:
        user = user_of(request)
        if user is None:
            raise LogInNeededError("Please log in")
        if not user.may(self.permission):
            raise ForbiddenError("Your role does not permit this")
        return Page(request, user)


def require(permission: Permission) -> Any:
    """Dependency: a :class:`Page` of somebody with this right. ``page: Annotated[Page, require(Permission.X)]``."""
    return Depends(Require(permission))


def anybody(request: Request) -> Page:
    """The dependency of the few pages that need no log-in."""
    return Page(request, user_of(request))


AnyPage = Annotated[Page, Depends(anybody)]


def check_form_token(
    request: Request,
    csrf: Annotated[str, Form()] = "",
    x_csrf_token: Annotated[str, Header()] = "",
) -> None:
    """Refuses an unsafe request without the form token of its session, or sent from another site."""
    portal, user = portal_of(request), user_of(request)
    if user is not None:
        expected = user.csrf
    else:
        visit = request.cookies.get(portal.visit_cookie, "")
        expected = portal.logins.visitor_csrf(visit) if visit else ""
    foreign = request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
    if foreign or not same(x_csrf_token or csrf, expected):
        raise ForgeryError("This form is out of date; load the page again and repeat")


async def form_values(request: Request) -> dict[str, str]:
    """Every text field of a posted form; a field sent twice keeps its last value."""
    return {name: value for name, value in (await request.form()).multi_items() if isinstance(value, str)}


FormValues = Annotated[dict[str, str], Depends(form_values)]
"""Parameter type of an endpoint whose form depends on data, such as the action of a ticket."""


class PageRoute(APIRoute):
    """A route that checks the form token of every unsafe method."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if set(options.get("methods") or ()) - SAFE_METHODS:
            options["dependencies"] = [Depends(check_form_token), *(options.get("dependencies") or ())]
        super().__init__(path, endpoint, **options)


def page_router() -> APIRouter:
    """The router of a page module."""
    return APIRouter(route_class=PageRoute)


def refused_form(error: RefusedError, values: Mapping[str, str]) -> render.Form:
    """The form as typed, with the refusal beside its field."""
    name = (error.field if isinstance(error, InvalidError) else None) or ""
    return render.Form(values, {name if name in values else "": Message.of(error)})


def log_in_address(request: Request) -> str:
    """The log-in page that comes back to a page asked for; only a local path ever gets into ``next``."""
    path = request.url.path
    if request.method != "GET":
        return "/login"
    query = f"?{request.url.query}" if request.url.query else ""
    return "/login" if path == "/" else f"/login?next={quote(path + query, safe='')}"


def new_visit() -> str:
    """A random value for the cookie of a visitor."""
    return secrets.token_urlsafe(24)


def _query_without_language(request: Request) -> str:
    kept = "&".join(
        f"{quote(key, safe='')}={quote(value, safe='')}"
        for key, value in request.query_params.multi_items()
        if key != "lang"
    )
    return kept + "&" if kept else ""


def _offset(moment: datetime, settings: Settings) -> timedelta:
    return moment.astimezone(settings.timezone).utcoffset() or timedelta(0)
