"""Why a rater's request cannot be met."""

from __future__ import annotations


class SessionError(RuntimeError):
    """A rater's request cannot be met; the message says why. ``status`` is its HTTP status."""

    status = 400


class BadAnswerError(SessionError):
    """The answer does not fit the protocol."""

    status = 422


class NoSuchLinkError(SessionError):
    """No rater has this link, or not this item now."""

    status = 404


class LinkClosedError(SessionError):
    """The link was revoked, or the study is not open."""

    status = 403


class WithdrawnError(SessionError):
    """The rater's data was deleted."""

    status = 410


class ConflictError(SessionError):
    """The request does not fit the session's current screen, as after an answer in another window; load the session again."""

    status = 409
