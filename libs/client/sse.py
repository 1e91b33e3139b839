"""Server-Sent Events, read as their bytes arrive. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEvent:
    """One event: its id (the last that was said), its name and its data."""

    id: str
    name: str
    data: str


class EventReader:
    """Takes a stream in pieces cut anywhere. An event that is not closed by an empty line is none;
    comments, which servers send so that the connection lives, are left aside.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._is_first = True
        self._id, self._name = "", ""
        self._data: list[str] = []

    @property
    def held_bytes(self) -> int:
        """About how much of an event that is not whole yet is kept."""
        return len(self._rest) + sum(map(len, self._data))

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """The events that are whole now."""
        # A CR at the end may be half of a line's end.
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        for line in lines:
            event = self._line(line.removeprefix(_BOM) if self._is_first else line)
            self._is_first = False
            if event is not None:
                yield event

    def _line(self, line: bytes) -> ServerEvent | None:
        if not line:
            return self._end()
        name, _, value = line.decode(errors="replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _end(self) -> ServerEvent | None:
        data, name = self._data, self._name
        self._data, self._name = [], ""
        return ServerEvent(id=self._id, name=name, data="\n".join(data)) if data else None
