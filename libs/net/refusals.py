"""What the network of others says no to, and how a request can fail."""

from __future__ import annotations

from enum import StrEnum


class EgressRule(StrEnum):
    """Which rule refuses a request before anything was sent."""

    URL = "URL"
    """The text is no URL of the strict kind."""
    SCHEME = "SCHEME"
    """Neither http nor https."""
    CREDENTIALS = "CREDENTIALS"
    """A user or a password stands in the URL."""
    HOST = "HOST"
    """The host is no name and no address, or an address in an odd spelling."""
    PORT = "PORT"
    """Neither 80 nor 443, and no other port is allowed there."""
    LOCAL_NAME = "LOCAL_NAME"
    """A name that means something in the local network only."""
    ADDRESS = "ADDRESS"
    """The host is, or its name leads to, an address that must not be reached."""


class EgressDenied(Exception):  # noqa: N818 - a verdict on a request, not a fault
    """A request that may not be sent. The message says what is wrong and what is allowed."""

    def __init__(self, rule: EgressRule, message: str) -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message


class ExchangeFault(StrEnum):
    """At what a request failed."""

    DNS = "DNS"
    CONNECT = "CONNECT"
    TLS = "TLS"
    PROTOCOL = "PROTOCOL"
    ENCODING = "ENCODING"
    """The answer is compressed in a way that is not read here, or is broken."""
    TOO_LARGE = "TOO_LARGE"
    """The answer is larger than is allowed."""
    CONNECT_TIMEOUT = "CONNECT_TIMEOUT"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"


class ExchangeFailed(Exception):  # noqa: N818 - an outcome of a request, not a fault of Pawl
    """A request that brought no complete answer; whether it was acted upon is not known.

    The message names no header and no content.
    """

    def __init__(self, fault: ExchangeFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message
