"""The error of everything that is wrong with a ticket."""


class TicketError(ValueError):
    """A ticket cannot be used; the message says why and what to do."""
