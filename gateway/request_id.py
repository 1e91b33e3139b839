"""Request ids and trace parents: a caller's own when they are sane, else made here."""

from __future__ import annotations

import re

from libs.rpc.context import new_request_id

_SANE = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")
# Of a version later than 00 only these four fields are known; more may follow.
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_KNOWN_FLAGS = 0x03


def request_id_of(sent: list[bytes]) -> str:
    """The X-Request-Id that was sent, when it is one and sane; else a new one."""
    if len(sent) == 1 and _SANE.fullmatch(sent[0]):
        return sent[0].decode("ascii")
    return new_request_id()


def traceparent_of(sent: list[bytes]) -> str:
    """The W3C traceparent that was sent, when it is one and well-formed; else the empty text.

    One of a later version goes on as version 00, with the flags that are known.
    """
    found = _TRACEPARENT.fullmatch(sent[0]) if len(sent) == 1 else None
    if found is None or (found[1] == b"00" and found[4] is not None):
        return ""
    if found[1] == b"00":
        return sent[0].decode("ascii")
    return f"00-{found[2].decode('ascii')}-{int(found[3], 16) & _KNOWN_FLAGS:02x}"
