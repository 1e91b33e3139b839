"""Plays a server to the steps of a call, without any I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from libs.client.address import address_of
from libs.client.calls import Calls
from libs.client.retrying import DEFAULT, Retry
from libs.client.wire import (
    Again,
    Answer,
    Effect,
    Exchange,
    Give,
    Item,
    Items,
    Lost,
    Now,
    Open,
    Pause,
    Read,
    Request,
    Result,
    Steps,
    Tell,
    advance,
)

URL = "http://pawl.example:8080"
KEY = "pawl_test_key"
FRESH_KEY = "fresh-key"


def make_calls(retry: Retry = DEFAULT, *, url: str = URL) -> Calls:
    """The calls to a server of that address."""
    return Calls(
        address=address_of(url, KEY), retry=retry, silence_seconds=35, new_key=lambda: FRESH_KEY
    )


def said(
    body: object = None, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Answer:
    """An answer with a JSON body, or without any."""
    content = b"" if body is None else json.dumps(body).encode()
    return Answer(status=status, headers=headers or {}, body=content)


def refused(status: int, code: str = "", *, retry_after: str | None = None) -> Answer:
    """A problem."""
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return said({"code": code, "detail": "no"}, status=status, headers=headers)


@dataclass(kw_only=True)
class Script:
    """What came of each Exchange, Open and Read, in order. Each takes `seconds` of a clock that
    otherwise only pauses move.
    """

    outcomes: list[Answer | Lost | bytes]
    seconds: float = 0.0
    now: float = 1000.0
    asked: list[Request] = field(default_factory=list)
    told: list[Again] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def run(self, steps: Steps[Result], *, left: int = 0) -> Result:
        """The result of a call; all outcomes but the last `left` must have been wanted."""
        outcome: object = None
        while True:
            try:
                effect = advance(steps, outcome)
            except StopIteration as end:
                assert len(self.outcomes) == left
                result: Result = end.value
                return result
            outcome = self._perform(effect)

    def items(self, steps: Items[Item]) -> list[Item]:
        """The items of a call; all outcomes must have been wanted."""
        found: list[Item] = []
        self.collect(steps, found)
        assert self.outcomes == []
        return found

    def collect(self, steps: Items[Item], found: list[Item]) -> None:
        """Put the items of a call into `found`, also those before an exception."""
        outcome: object = None
        while True:
            try:
                effect = advance(steps, outcome)
            except StopIteration:
                return
            outcome = None
            if isinstance(effect, Give):
                found.append(effect.value)
            else:
                outcome = self._perform(effect)

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Exchange(request) | Open(request):
                self.asked.append(request)
                self.now += self.seconds
                return self.outcomes.pop(0)
            case Read():
                return self.outcomes.pop(0)
            case Pause(seconds):
                self.pauses.append(seconds)
                self.now += seconds
            case Now():
                return self.now
            case Tell(again):
                self.told.append(again)
        return None


def script(*outcomes: Answer | Lost | bytes, seconds: float = 0.0) -> Script:
    """A script of these outcomes."""
    return Script(outcomes=list(outcomes), seconds=seconds)
