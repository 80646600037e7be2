"""Errors to answers: the only place that knows HTTP status codes of failures.

Browsers get a page, htmx a toast, ``/api`` an ``application/problem+json`` with a stable type. Stack traces stay in the log.
"""

from __future__ import annotations

import math
import secrets
import traceback
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from domain.errors import (
    BrewairError,
    ConflictError,
    ForbiddenError,
    IllegalTransitionError,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from portal.auth import ForgeryError, LogInNeededError, TooManyAttemptsError
from portal.deps import Page, log_in_address, user_of, wants_fragment
from portal.headers import PAGE_HEADERS, SECURITY_HEADERS
from portal.language import Message, _
from portal.render import Notice

log = structlog.get_logger(__name__)

STATUS: tuple[tuple[type[BrewairError], HTTPStatus], ...] = (
    (InvalidError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (LogInNeededError, HTTPStatus.UNAUTHORIZED),
    (TooManyAttemptsError, HTTPStatus.TOO_MANY_REQUESTS),
    (ForgeryError, HTTPStatus.FORBIDDEN),
    (ForbiddenError, HTTPStatus.FORBIDDEN),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (IllegalTransitionError, HTTPStatus.CONFLICT),
    (ConflictError, HTTPStatus.CONFLICT),
    (RefusedError, HTTPStatus.CONFLICT),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (BrewairError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
"""First match wins. A plain RefusedError is a guard of the ticket that did not hold: 409."""

HEADLINES: dict[int, str] = {
    400: _("This request cannot be understood"),
    401: _("Please log in"),
    403: _("Not permitted"),
    404: _("Not found"),
    405: _("Not possible here"),
    409: _("Not possible now"),
    422: _("Please check what was entered"),
    429: _("Too many attempts"),
    500: _("Something went wrong on our side"),
    503: _("Not available for the moment"),
}


def status_of(error: BrewairError) -> int:
    """The HTTP status of an expected error."""
    return next(int(status) for kind, status in STATUS if isinstance(error, kind))


def problem_type(error: BrewairError) -> str:
    """The stable ``type`` of a problem: ``/problems/conflict`` for ConflictError."""
    name = type(error).__name__.removesuffix("Error")
    return "/problems/" + "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")


@dataclass(frozen=True, slots=True)
class ProblemView:
    """What the page of a failed request says."""

    status: int
    headline: str
    message: Message


def install(app: FastAPI) -> None:
    """Registers the handlers."""
    app.add_exception_handler(BrewairError, _expected)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(HTTPException, _protocol)
    app.add_exception_handler(Exception, _unexpected)


def _expected(request: Request, error: Exception) -> Response:
    assert isinstance(error, BrewairError)
    status = status_of(error)
    if status >= 500:
        log.warning("request failed", path=request.url.path, error=str(error))
    message, headers = Message.of(error), {}
    if isinstance(error, (UnavailableError, TooManyAttemptsError)):
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if isinstance(error, LogInNeededError) and not _is_api(request):
        return _to_log_in(request)
    return _answer(request, status, message, problem_type(error), headers)


def _unreadable(request: Request, error: Exception) -> Response:
    # The value of a path or query parameter has the wrong form: for a reader that is an address that does not exist.
    is_form = request.method not in ("GET", "HEAD")
    status = HTTPStatus.UNPROCESSABLE_ENTITY if is_form else HTTPStatus.NOT_FOUND
    message = Message("A value cannot be read") if is_form else Message("There is no such page")
    return _answer(request, int(status), message, "/problems/unreadable")


def _protocol(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = Message("There is no such page") if error.status_code == 404 else Message(headline(error.status_code))
    return _answer(request, error.status_code, message, "about:blank", dict(error.headers or {}))


def _unexpected(request: Request, error: Exception) -> Response:
    reference = secrets.token_hex(4)
    # As text, without local variables: those hold cookies and passwords.
    trace = "".join(traceback.format_exception(error))
    log.error("unexpected error", path=request.url.path, reference=reference, trace=trace)
    message = Message("This was recorded under the number {reference}", reference=reference)
    # This answer is made outside the middleware that adds these to every other.
    return _answer(request, 500, message, "/problems/internal", {**SECURITY_HEADERS, **PAGE_HEADERS})


def headline(status: int) -> str:
    """The short name of a status, as a message id."""
    return HEADLINES.get(status, HEADLINES[500 if status >= 500 else 400])


def _is_api(request: Request) -> bool:
    return request.url.path.startswith("/api/")


def _to_log_in(request: Request) -> Response:
    if wants_fragment(request):
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    if request.headers.get("accept", "").startswith("text/event-stream"):
        return Response(status_code=401)
    return RedirectResponse(log_in_address(request), status_code=303)


def _answer(
    request: Request, status: int, message: Message, kind: str, headers: dict[str, str] | None = None
) -> Response:
    page = _page(request)
    renderer = page.portal.renderer
    if _is_api(request):
        body = {
            "type": kind,
            "title": renderer.speakers["en"].text(headline(status)),
            "status": status,
            "detail": renderer.speakers["en"].text(message),
        }
        return JSONResponse(body, status_code=status, headers=headers, media_type="application/problem+json")
    if wants_fragment(request):
        toasts = renderer.toasts(page.shell(notices=(Notice(message, "bad"),)))
        return HTMLResponse(toasts, status_code=status, headers=headers)
    view = ProblemView(status=status, headline=headline(status), message=message)
    return HTMLResponse(renderer.page("problem.html", view, page.shell()), status_code=status, headers=headers)


def _page(request: Request) -> Page:
    try:
        return Page(request, user_of(request))
    except BrewairError:  # the database is what failed: show the error as to a stranger
        return Page(request, None)
