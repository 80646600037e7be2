"""``/login``, ``/logout``, ``/account``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Form as FormField
from fastapi.responses import RedirectResponse, Response

from domain.desk import registry as desk
from domain.errors import InvalidError, RefusedError
from portal.auth import hash_password, usable_password
from portal.deps import AnyPage, Page, new_visit, page_router, refused_form, require
from portal.errors import status_of
from portal.language import Message
from portal.permissions import Permission
from portal.render import Form

router = page_router()


@dataclass(frozen=True, slots=True)
class LogInView:
    """The log-in form; ``csrf`` belongs to the visitor's cookie."""

    form: Form
    csrf: str
    next: str


@dataclass(frozen=True, slots=True)
class AccountView:
    """Who one is logged in as; ``form`` changes the password."""

    name: str
    login: str
    roles: tuple[str, ...]
    form: Form


@router.get("/login")
def form(page: AnyPage, next: str = "") -> Response:
    """The form, with a cookie that binds its token to this browser."""
    return _show(page, Form.blank(login=""), next)


@router.post("/login")
def log_in(
    page: AnyPage,
    login: Annotated[str, FormField()] = "",
    password: Annotated[str, FormField()] = "",
    next: Annotated[str, FormField()] = "",
) -> Response:
    """Starts a session. A session that this browser had before ends, so that nobody goes on as somebody else."""
    portal, request = page.portal, page.request
    address = request.client.host if request.client else ""
    try:
        token = portal.logins.log_in(login, password, address)
    except RefusedError as error:
        return _show(page, refused_form(error, {"login": login, "password": ""}), next, status=status_of(error))
    portal.logins.log_out(request.cookies.get(portal.session_cookie))
    response = RedirectResponse(next if is_local(next) else "/", status_code=303)
    portal.set_cookie(response, portal.session_cookie, token)
    response.delete_cookie(portal.visit_cookie, path="/", secure=portal.secure)
    return response


@router.post("/logout")
def log_out(page: Annotated[Page, require(Permission.LOGGED_IN)]) -> Response:
    """Ends the session on the server, not only in the browser."""
    portal = page.portal
    portal.logins.log_out(page.request.cookies.get(portal.session_cookie))
    response = RedirectResponse("/login", status_code=303)
    response.delete_cookie(portal.session_cookie, path="/", secure=portal.secure)
    return response


@router.get("/account")
def account(page: Annotated[Page, require(Permission.LOGGED_IN)]) -> Response:
    """Name, log-in and roles, and the form for another password."""
    return _account(page, Form.blank(**NO_PASSWORDS))


@router.post("/account/password")
def change_password(
    page: Annotated[Page, require(Permission.LOGGED_IN)],
    current: Annotated[str, FormField()] = "",
    password: Annotated[str, FormField()] = "",
    again: Annotated[str, FormField()] = "",
) -> Response:
    """Another password for oneself. All one's sessions end; this browser goes on in a new one."""
    portal, request = page.portal, page.request
    try:
        if usable_password(password) != again:
            raise InvalidError("The two new passwords differ", field="again")
        portal.logins.check(page.user, current, request.client.host if request.client else "")
        if password == current:
            raise InvalidError("The new password is the present one", field="password")
        hashed = hash_password(password)  # slow by design: before the transaction
        with page.command() as session:
            desk.save_person(session, page.actor, {}, page.now, page.user.id, password_hash=hashed)
            token = portal.logins.open(session, page.user.id)
    except RefusedError as error:
        return _account(page, refused_form(error, NO_PASSWORDS), status=status_of(error))
    response = page.go("/account", Message("New password set; you have been logged out everywhere else"))
    portal.set_cookie(response, portal.session_cookie, token)
    return response


NO_PASSWORDS = {"current": "", "password": "", "again": ""}
"""A password that was typed never comes back in a page."""


def _account(page: Page, form: Form, status: int = 200) -> Response:
    view = AccountView(page.user.name, page.user.login, page.user.roles, form)
    return page.show("account.html", view, status=status)


def is_local(path: str) -> bool:
    """Whether a path leads nowhere but into this portal."""
    return path.startswith("/") and not path.startswith(("//", "/\\")) and not any(ord(c) < 32 for c in path)


def _show(page: Page, form: Form, next: str, status: int = 200) -> Response:
    portal = page.portal
    visit = page.request.cookies.get(portal.visit_cookie) or new_visit()
    csrf = page.csrf or portal.logins.visitor_csrf(visit)
    view = LogInView(form, csrf, next if is_local(next) else "")
    response = page.show("login.html", view, status=status)
    portal.set_cookie(response, portal.visit_cookie, visit)
    return response
