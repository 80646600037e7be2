"""The one tree of errors.

    BrewairError
    ├── RefusedError              expected: the caller asked for what is not allowed or not there; shown beside the field
    │   ├── InvalidError          a value cannot be used (names the field)
    │   ├── NotFoundError         no such thing, or not yours to see
    │   ├── ForbiddenError        your role does not permit it
    │   ├── ConflictError         somebody changed it first, or it exists already
    │   └── IllegalTransitionError  the ticket's state does not know this action
    ├── UnavailableError          transient: a store or broker is away; the loop tries again after `retry_after` seconds
    │   └── TakenError            somebody else holds what only one may have at a time
    └── SettingsError             the program cannot start with these settings

Messages are English gettext ids with named ``{placeholders}``; the portal translates them, the command line prints them.
"""

from __future__ import annotations


class BrewairError(Exception):
    """Root of all expected failures.

    ``message_id`` is the untranslated template and ``params`` its values; ``str()`` gives the English text.
    """

    def __init__(self, message_id: str, /, **params: object) -> None:
        self.message_id = message_id
        self.params = params
        super().__init__(message_id.format(**params) if params else message_id)


class RefusedError(BrewairError):
    """Expected refusal of a command; nothing was changed."""


class InvalidError(RefusedError):
    """A value cannot be used; ``field`` names the form field it belongs to, when there is one."""

    def __init__(self, message_id: str, /, field: str | None = None, **params: object) -> None:
        self.field = field
        super().__init__(message_id, **params)


class NotFoundError(RefusedError):
    """No such thing, or not visible to the one who asks (the two must look alike)."""


class ForbiddenError(RefusedError):
    """The role of the one who asks does not permit it."""


class ConflictError(RefusedError):
    """Lost a compare-and-set, or a unique thing exists already."""


class IllegalTransitionError(RefusedError):
    """The ticket's present state has no such action."""


class UnavailableError(BrewairError):
    """A store or broker is away for now; try again after ``retry_after`` seconds."""

    def __init__(self, message_id: str, /, retry_after: float = 1.0, **params: object) -> None:
        self.retry_after = retry_after
        super().__init__(message_id, **params)


class TakenError(UnavailableError):
    """Somebody else holds what only one may have at a time."""


class SettingsError(BrewairError):
    """The settings cannot be used; the message has one line per problem."""
