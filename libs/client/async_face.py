"""Performs the steps of a call with asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
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


class AsyncFace:
    """Keeps connections open between calls; belongs to one event loop."""

    def __init__(self, transport: Transport, *, on_retry: OnRetry) -> None:
        # Late: a program that only verifies traces needs no HTTP.
        import httpx2

        self.transport = transport
        self.on_retry = on_retry
        self.http = httpx2.AsyncClient(
            verify=transport.tls,
            proxy=transport.proxy,
            trust_env=False,
            headers={"User-Agent": USER_AGENT},
            limits=transport.limits,
        )

    async def run(self, steps: Steps[Result]) -> Result:
        """The result of a call."""
        async with aclosing(_Session(self)) as session:
            outcome: object = None
            while True:
                try:
                    effect = advance(steps, outcome)
                except StopIteration as end:
                    result: Result = end.value
                    return result
                outcome = await session.perform(effect)

    async def items(self, steps: Items[Item]) -> AsyncIterator[Item]:
        """The items of a call as they come; a stream is closed when nobody wants more."""
        async with aclosing(_Session(self)) as session:
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
                    outcome = await session.perform(effect)

    async def close(self) -> None:
        """Close all connections."""
        await self.http.aclose()


class _Session:
    """One call: at most one stream is open."""

    def __init__(self, face: AsyncFace) -> None:
        self._face = face
        self._stream: httpx2.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._silence_seconds = 0.0

    async def perform(self, effect: Effect) -> object:
        """What came of it; a Lost is returned, not raised."""
        match effect:
            case Exchange(request):
                self._silence_seconds = request.silence_seconds
                return await self._tried(self._exchange(request))
            case Open(request):
                self._silence_seconds = request.silence_seconds
                return await self._tried(self._open(request))
            case Read():
                return await self._tried(self._read())
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Now():
                return time.monotonic()
            case Tell(again):
                self._face.on_retry(again)
        return None

    async def aclose(self) -> None:
        """Close the stream, if one is open."""
        if self._stream is not None:
            await self._stream.aclose()
            self._stream = None

    async def _tried(self, act: Awaitable[Answer | bytes]) -> Answer | bytes | Lost:
        import httpx2

        try:
            return await act
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
            is_silence = isinstance(error, httpx2.ReadTimeout)
            return lost(error, is_silence=is_silence, seconds=self._silence_seconds)

    async def _exchange(self, request: Request) -> Answer:
        response = await self._send(request)
        async with aclosing(response):
            return await _whole(response)

    async def _open(self, request: Request) -> Answer:
        await self.aclose()
        self._stream = response = await self._send(request)
        if response.status_code != 200:
            return await _whole(response)
        self._chunks = response.aiter_bytes()
        return answer_of(response.status_code, response.headers)

    async def _read(self) -> bytes:
        return b"" if self._chunks is None else await anext(self._chunks, b"")

    async def _send(self, request: Request) -> httpx2.Response:
        http, transport = self._face.http, self._face.transport
        prepared = http.build_request(
            request.method,
            transport.url_of(request),
            content=request.body,
            headers=dict(request.headers),
            timeout=transport.timeout_of(request),
        )
        return await http.send(prepared, stream=True)


async def _whole(response: httpx2.Response) -> Answer:
    return answer_of(response.status_code, response.headers, await response.aread())
