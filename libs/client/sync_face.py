"""Performs the steps of a call with blocking I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from libs.client.transport import USER_AGENT, OnRetry, Transport, answer_of, lost
from libs.client.wire import (
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

if TYPE_CHECKING:
    import httpx2


class SyncFace:
    """Keeps connections open between calls; many threads may use one."""

    def __init__(self, transport: Transport, *, on_retry: OnRetry) -> None:
        # Late: a program that only verifies traces needs no HTTP.
        import httpx2

        self.transport = transport
        self.on_retry = on_retry
        self.http = httpx2.Client(
            verify=transport.tls,
            proxy=transport.proxy,
            trust_env=False,
            headers={"User-Agent": USER_AGENT},
            limits=transport.limits,
        )

    def run(self, steps: Steps[Result]) -> Result:
        """The result of a call."""
        with closing(_Session(self)) as session:
            outcome: object = None
            while True:
                try:
                    effect = advance(steps, outcome)
                except StopIteration as end:
                    result: Result = end.value
                    return result
                outcome = session.perform(effect)

    def items(self, steps: Items[Item]) -> Iterator[Item]:
        """The items of a call as they come; a stream is closed when nobody wants more."""
        with closing(_Session(self)) as session:
            outcome: object = None
            while True:
                try:
                    effect = advance(steps, outcome)
                except StopIteration:
                    return
                outcome = None
                if isinstance(effect, Give):
                    yield effect.value
                else:
                    outcome = session.perform(effect)

    def close(self) -> None:
        """Close all connections."""
        self.http.close()


class _Session:
    """One call: at most one stream is open."""

    def __init__(self, face: SyncFace) -> None:
        self._face = face
        self._stream: httpx2.Response | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._silence_seconds = 0.0

    def perform(self, effect: Effect) -> object:
        """What came of it; a Lost is returned, not raised."""
        match effect:
            case Exchange(request):
                self._silence_seconds = request.silence_seconds
                return self._tried(lambda: self._exchange(request))
            case Open(request):
                self._silence_seconds = request.silence_seconds
                return self._tried(lambda: self._open(request))
            case Read():
                return self._tried(lambda: next(self._chunks, b""))
            case Pause(seconds):
                time.sleep(seconds)
            case Now():
                return time.monotonic()
            case Tell(again):
                self._face.on_retry(again)
        return None

    def close(self) -> None:
        """Close the stream, if one is open."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _tried(self, act: Callable[[], Answer | bytes]) -> Answer | bytes | Lost:
        import httpx2

        try:
            return act()
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
            is_silence = isinstance(error, httpx2.ReadTimeout)
            return lost(error, is_silence=is_silence, seconds=self._silence_seconds)

    def _exchange(self, request: Request) -> Answer:
        with closing(self._send(request)) as response:
            return _whole(response)

    def _open(self, request: Request) -> Answer:
        self.close()
        self._stream = response = self._send(request)
        if response.status_code != 200:
            return _whole(response)
        self._chunks = response.iter_bytes()
        return answer_of(response.status_code, response.headers)

    def _send(self, request: Request) -> httpx2.Response:
        http, transport = self._face.http, self._face.transport
        prepared = http.build_request(
            request.method,
            transport.url_of(request),
            content=request.body,
            headers=dict(request.headers),
            timeout=transport.timeout_of(request),
        )
        return http.send(prepared, stream=True)


def _whole(response: httpx2.Response) -> Answer:
    return answer_of(response.status_code, response.headers, response.read())
