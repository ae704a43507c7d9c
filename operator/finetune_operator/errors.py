"""Every error of the operator, one tree.

    OperatorError
    ├── SettingsError         an environment variable of the operator
    ├── UnreadableError       a document that this version cannot read
    ├── ForeignError          an object of our name that belongs to somebody else
    ├── LeaseLostError        another replica leads, or nobody could renew: stop writing at once
    ├── AgentError            an agent did not answer: unknown, never a verdict
    └── ClusterError          the API server said no, or nothing
        ├── NotFoundError     404
        ├── ConflictError     409: somebody else was first
        ├── GoneError         410: the watch's position is too old, list again
        ├── ForbiddenError    401, 403: rights, quota, admission
        ├── InvalidError      400, 422: the object can never be accepted as it is
        └── UnavailableError  429, 5xx, no answer: the same request may succeed later

Errors of libraries are mapped where they are met and chained with `from`.
"""

from __future__ import annotations


class OperatorError(Exception):
    """The root."""


class SettingsError(OperatorError):
    """An environment variable of the operator is missing or cannot be read."""


class UnreadableError(OperatorError):
    """A document of the cluster cannot be read by this version of the operator."""


class ForeignError(OperatorError):
    """An object has the name that one of ours should have."""


class LeaseLostError(OperatorError):
    """Another replica leads, or the lease could not be renewed: no write may follow."""


class AgentError(OperatorError):
    """An agent did not answer, or not in the contract's words."""


class ClusterError(OperatorError):
    """The API server refused or did not answer."""


class NotFoundError(ClusterError):
    """There is no such object."""


class ConflictError(ClusterError):
    """The object exists already, or has changed since it was read."""


class GoneError(ClusterError):
    """The position of a list or watch is too old."""


class ForbiddenError(ClusterError):
    """Rights, a quota or an admission rule forbid it."""


class InvalidError(ClusterError):
    """The object can never be accepted as it is."""


class UnavailableError(ClusterError):
    """The API server is busy or away; the same request may succeed later."""

    retry_after: float | None = None
    """Seconds that the API server asks to wait: the request was not carried out."""


_BY_STATUS = {
    400: InvalidError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
}


def map_status(status: int, message: str, retry_after: float | None = None) -> ClusterError:
    """The error of an HTTP status, with the API server's own words."""
    error = _BY_STATUS.get(status, UnavailableError)(message)
    if isinstance(error, UnavailableError):
        error.retry_after = retry_after
    return error
