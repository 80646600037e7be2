"""Who is there: passwords (Argon2), server-side sessions, forgery tokens, limits on attempts.

All times here are the wall's, also in a demo with a scaled clock. A cookie holds a random token; the database only its
SHA-256. A session ends after ``IDLE`` without a request and after ``LIFETIME`` in any case.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Protocol

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete
from sqlalchemy.orm import Session

from domain.errors import InvalidError, RefusedError, SettingsError, UnavailableError
from domain.store.queries import logins, registry
from domain.store.session import Sessions
from domain.store.tables import LoginSession
from portal.permissions import Permission, permissions_of

IDLE = timedelta(hours=12)
LIFETIME = timedelta(days=7)
SEEN_EVERY = timedelta(minutes=1)
"""A request writes ``seen_at`` at most this often."""
ATTEMPTS_PER_ACCOUNT = 8
ATTEMPTS_PER_ADDRESS = 40
"""Failed log-ins per quarter of an hour; an office shares one address (EJ)."""
ATTEMPT_WINDOW = timedelta(minutes=15)

SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 200

log = structlog.get_logger(__name__)
_hasher = PasswordHasher()
_hashing = threading.BoundedSemaphore(2)  # Argon2 takes 64 MiB each time: a burst of attempts must not take all memory


class Wall(Protocol):
    """Wall and monotonic time."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


class LogInNeededError(RefusedError):
    """Nobody is logged in, or no longer."""


class TooManyAttemptsError(RefusedError):
    """The limit of attempts is reached; try again after ``retry_after`` seconds."""

    def __init__(self, message_id: str, /, retry_after: float, **params: object) -> None:
        self.retry_after = retry_after
        super().__init__(message_id, **params)


class ForgeryError(RefusedError):
    """A form came without the token of its session."""


@dataclass(frozen=True, slots=True)
class User:
    """Who is logged in, with all rights; ``csrf`` is the session's form token."""

    id: int
    login: str
    name: str
    roles: tuple[str, ...]
    permissions: frozenset[Permission]
    locale: str
    csrf: str

    def may(self, permission: Permission) -> bool:
        """Whether this right is granted."""
        return permission in self.permissions


def hash_password(password: str) -> str:
    """Argon2id hash. Takes tens of milliseconds and 64 MiB: never inside a transaction."""
    with _hashing:
        return _hasher.hash(password)


def usable_password(password: str, field: str = "password") -> str:
    """The password itself, if somebody may have it. Raises InvalidError."""
    if len(password) < SHORTEST_PASSWORD:
        raise InvalidError("At least {count} characters", field=field, count=SHORTEST_PASSWORD)
    if len(password) > LONGEST_PASSWORD:
        raise InvalidError("At most {count} characters", field=field, count=LONGEST_PASSWORD)
    return password


def password_fits(password_hash: str, password: str) -> bool:
    """Whether the password is the hashed one; an unusable hash fits none."""
    with _hashing:
        try:
            return _hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


class AttemptLimit:
    """At most ``limit`` attempts per key within a window; keys are forgotten oldest first beyond ``capacity``."""

    def __init__(self, limit: int, window: timedelta, monotonic: Callable[[], float], capacity: int = 10_000) -> None:
        self._limit, self._window, self._monotonic, self._capacity = limit, window.total_seconds(), monotonic, capacity
        self._attempts: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, key: str) -> None:
        """Counts one attempt; raises TooManyAttemptsError when it is one too many."""
        now = self._monotonic()
        with self._lock:
            times = self._attempts.setdefault(key, deque())
            self._attempts.move_to_end(key)
            while times and times[0] <= now - self._window:
                times.popleft()
            if len(times) >= self._limit:
                wait = times[0] + self._window - now
                raise TooManyAttemptsError(
                    "Too many attempts; try again in {minutes} min", retry_after=wait, minutes=int(wait // 60) + 1
                )
            times.append(now)
            while len(self._attempts) > self._capacity:
                self._attempts.popitem(last=False)

    def forget(self, key: str) -> None:
        """Clears a key after success."""
        with self._lock:
            self._attempts.pop(key, None)


class Logins:
    """Log-in, log-out, and who a cookie belongs to."""

    def __init__(self, sessions: Sessions, wall: Wall, secret: bytes) -> None:
        self._sessions, self._wall, self._secret = sessions, wall, secret
        self._by_account = AttemptLimit(ATTEMPTS_PER_ACCOUNT, ATTEMPT_WINDOW, wall.monotonic)
        self._by_address = AttemptLimit(ATTEMPTS_PER_ADDRESS, ATTEMPT_WINDOW, wall.monotonic)

    def log_in(self, login: str, password: str, address: str) -> str:
        """Starts a session and returns its token.

        Raises InvalidError (one text for unknown name, wrong password and inactive account), TooManyAttemptsError.
        """
        account = login.strip().casefold()
        self._by_address.count(address)
        self._by_account.count(account)
        with self._sessions.read() as session:
            person = registry.person_by_login(session, login.strip())
        usable = person is not None and person.active and bool(person.password_hash)
        fits = password_fits(person.password_hash if person and usable else _nobody(), password)
        if person is None or not usable or not fits:
            log.info("log-in refused", address=address)
            raise InvalidError("User name or password is wrong", field="password")
        self._by_account.forget(account)
        self._by_address.forget(address)
        with self._sessions.command() as session:
            return self.open(session, person.id)

    def check(self, user: User, password: str, address: str) -> None:
        """Whether somebody who is logged in knows their password; the same limits as for a log-in.

        Raises InvalidError for the field ``current``, TooManyAttemptsError.
        """
        self._by_address.count(address)
        self._by_account.count(user.login)
        with self._sessions.read() as session:
            known = registry.person(session, user.id).password_hash
        if not password_fits(known, password):
            log.info("password change refused", address=address)
            raise InvalidError("This is not your present password", field="current")
        self._by_account.forget(user.login)
        self._by_address.forget(address)

    def open(self, session: Session, person_id: int) -> str:
        """Starts a session of this person within a transaction and returns its token."""
        token, now = secrets.token_urlsafe(32), self._wall.now()
        session.execute(delete(LoginSession).where(LoginSession.expires_at <= now))
        session.add(
            LoginSession(
                token_hash=_hashed(token),
                person_id=person_id,
                csrf=secrets.token_urlsafe(32),
                created_at=now,
                seen_at=now,
                expires_at=now + LIFETIME,
            )
        )
        return token

    def who(self, token: str | None, *, note: bool = True) -> User | None:
        """Whom the cookie belongs to, while the session lasts and the account is active.

        With ``note`` the session counts as used; an event stream, which lives without its reader, does not note.
        """
        if not token:
            return None
        now = self._wall.now()
        with self._sessions.read() as session:
            found = logins.login_session(session, _hashed(token))
            if found is None or now >= found.expires_at or now - found.seen_at >= IDLE or not found.person.active:
                return None
            person, seen_at, csrf = found.person, found.seen_at, found.csrf
        if note and now - seen_at >= SEEN_EVERY:
            with suppress(UnavailableError), self._sessions.command() as session:
                again = logins.login_session(session, _hashed(token))
                if again is not None:
                    again.seen_at = now
        return User(
            id=person.id,
            login=person.login,
            name=person.name,
            roles=tuple(person.roles),
            permissions=permissions_of(person.roles),
            locale=person.locale,
            csrf=csrf,
        )

    def log_out(self, token: str | None) -> None:
        """Ends the session of a cookie."""
        if token:
            with self._sessions.command() as session:
                session.execute(delete(LoginSession).where(LoginSession.token_hash == _hashed(token)))

    def visitor_csrf(self, visit: str) -> str:
        """Form token of somebody not yet logged in, bound to the random value in their cookie."""
        return self.sign(f"visit:{visit}")

    def sign(self, text: str) -> str:
        """Keyed digest of a text that goes through the browser and must come back as it was."""
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


def portal_secret(path: Path) -> bytes:
    """The portal's secret; made once, readable by its owner only. Raises SettingsError for an unusable file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            secret = path.read_bytes().strip()
        else:
            secret = secrets.token_hex(32).encode()
            with os.fdopen(handle, "wb") as stream:
                stream.write(secret)
    except OSError as error:
        raise SettingsError(
            "BREWAIR_SECRET_FILE: cannot use {path}: {reason}", path=path, reason=error.strerror
        ) from error
    if len(secret) < 32:
        raise SettingsError("BREWAIR_SECRET_FILE: {path} holds less than 32 characters", path=path)
    return secret


def same(given: str, expected: str) -> bool:
    """Compares two tokens in constant time; an empty one equals nothing."""
    return bool(given and expected) and hmac.compare_digest(given.encode(), expected.encode())


@cache
def _nobody() -> str:
    """A hash that no password fits: an unknown name takes as long as a wrong password."""
    return hash_password(secrets.token_hex())


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
