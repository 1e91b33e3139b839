"""Request ids and trace parents: a caller's own when they are sane, else made here."""

from __future__ import annotations

import re

from libs.rpc.context import new_request_id

_SANE = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def request_id_of(sent: list[bytes]) -> str:
    """The X-Request-Id that was sent, when it is one and sane; else a new one."""
    if len(sent) == 1 and _SANE.fullmatch(sent[0]):
        return sent[0].decode("ascii")
    return new_request_id()


def traceparent_of(sent: list[bytes]) -> str:
    """The W3C traceparent that was sent, when it is one and well-formed; else the empty text."""
    if len(sent) == 1 and _TRACEPARENT.fullmatch(sent[0]):
        return sent[0].decode("ascii")
    return ""
