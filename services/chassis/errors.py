"""Errors by cause; each edge maps them to its own codes.

SlipwayError
├── Invalid             the caller's input is wrong; names the field and the reason
├── NotFound            no such thing
├── AlreadyExists       a thing of that name is there already
├── Conflict            the state forbids it (in progress, not ready)
├── OutOfRange          a valid value that lies outside what we keep
├── Overloaded          refused early; try again later
├── Unavailable         a part that we need does not answer; try again
└── DeadlineExceeded    the caller's time is up
"""

from __future__ import annotations


class SlipwayError(Exception):
    """Base of every error whose text may be shown to a caller."""


class Invalid(SlipwayError):
    """The caller's input is wrong."""


class NotFound(SlipwayError):
    """No such thing."""


class AlreadyExists(SlipwayError):
    """A thing of that name is there already."""


class Conflict(SlipwayError):
    """The present state forbids it."""


class OutOfRange(SlipwayError):
    """A valid value outside what is kept."""


class Overloaded(SlipwayError):
    """Refused early; trying again later may work."""


class Unavailable(SlipwayError):
    """Something that we need does not answer; trying again may work."""


class DeadlineExceeded(SlipwayError):
    """The caller's deadline has passed."""
