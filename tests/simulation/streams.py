"""Work streams in the simulation: two pipes with a delay, which can be held, cut and reset."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Generic, TypeVar

from libs.core.errors import PawlError
from libs.db.outage import database_refusal
from libs.pb.pawl.scheduler.v1.work_service_pb2 import WorkRequest, WorkResponse
from libs.rpc.client import StreamCall
from services.scheduler.work_server import WorkServicer
from tests.simulation.virtual_loop import Process, VirtualLoop

KEEPALIVE_SECONDS = 40.0
"""How long a client waits for a silent peer: a ping after 30 s, 10 s for its answer."""

T = TypeVar("T")


class Inbox(Generic[T]):
    """What has arrived and was not read yet."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._items: deque[T | PawlError | None] = deque()
        self._reader: asyncio.Future[None] | None = None

    def put(self, item: T | PawlError | None) -> None:
        """Let something arrive; None: the end; an error: the failure of the stream."""
        self._items.append(item)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> T | None:
        """The next item; the end and a failure stay."""
        while not self._items:
            self._reader = self._loop.create_future()
            await self._reader
        item = self._items[0]
        if item is None:
            return None
        if isinstance(item, PawlError):
            raise item
        self._items.popleft()
        return item


class Pipe(Generic[T]):
    """One direction: in order, with a delay; held, it keeps everything until it is let go."""

    def __init__(self, loop: VirtualLoop, random: Random, inbox: Inbox[T]) -> None:
        self.is_held = False
        self.is_broken = False
        self._loop = loop
        self._random = random
        self._inbox = inbox
        self._last = 0.0
        self._kept: deque[Callable[[], None]] = deque()

    def send(self, item: T | PawlError | None) -> None:
        """Send something on its way."""
        self.do(lambda: self._inbox.put(item))

    def do(self, act: Callable[[], None]) -> None:
        """Do something where the pipe ends, once all that was sent before has arrived."""
        self._last = max(self._last, self._loop.time() + self._random.uniform(0.0001, 0.003))
        self._loop.call_at(self._last, self._arrive, act, context=self._loop.outside)

    def _arrive(self, act: Callable[[], None]) -> None:
        if self.is_held or self._kept:
            self._kept.append(act)
        elif not self.is_broken:
            act()

    def let_go(self) -> None:
        """Deliver what was kept, and go on."""
        self.is_held = False
        while self._kept:
            act = self._kept.popleft()
            if not self.is_broken:
                act()


class SimulatedStream(StreamCall[WorkRequest, WorkResponse]):
    """A Work stream between two processes, driven through the real servicer."""

    def __init__(
        self, loop: VirtualLoop, random: Random, *, client: Process, server: Process
    ) -> None:
        self.client, self.server = client, server
        self._loop = loop
        self._requests: Inbox[WorkRequest] = Inbox(loop)
        self._responses: Inbox[WorkResponse] = Inbox(loop)
        self.up = Pipe(loop, random, self._requests)
        self.down = Pipe(loop, random, self._responses)
        self._serving: asyncio.Task[None] | None = None
        self._failed: PawlError | None = None
        self._held_since: float | None = None

    def serve(self, servicer: WorkServicer) -> asyncio.Task[None]:
        """Let the server take the call."""
        self._serving = self._loop.create_task(
            self._serve(servicer), context=self.server.context.copy()
        )
        return self._serving

    async def write(self, message: WorkRequest) -> None:
        """As StreamCall.write."""
        if self._failed is not None:
            raise self._failed
        self.up.send(message)

    async def read(self) -> WorkResponse | None:
        """As StreamCall.read."""
        return await self._responses.get()

    async def done_writing(self) -> None:
        """As StreamCall.done_writing."""
        self.up.send(None)

    def cancel(self) -> None:
        """As StreamCall.cancel: the server hears of it when the network lets it."""
        if self._failed is None:
            self._fail("the stream was cancelled here")
            self.up.do(self._drop_server)

    def hold(self, *, up: bool, down: bool) -> None:
        """Let nothing through, in one direction or both."""
        self.up.is_held |= up
        self.down.is_held |= down
        if self._held_since is None:
            self._held_since = self._loop.time()
            self._loop.call_later(
                KEEPALIVE_SECONDS,
                self._miss_keepalive,
                self._held_since,
                context=self._loop.outside,
            )

    def let_go(self) -> None:
        """Let everything through again."""
        self._held_since = None
        self.up.let_go()
        self.down.let_go()

    def reset(self) -> None:
        """Break it for both ends: what is on its way is lost."""
        self.up.is_broken = self.down.is_broken = True
        self._fail("the connection was reset")
        self._drop_server()

    def lose_client(self) -> None:
        """The client's machine closes the connection of a process that died."""
        self.up.do(self._drop_server)

    def lose_server(self) -> None:
        """The server's machine closes the connection of a process that died."""
        self.down.do(lambda: self._fail("the connection was closed"))

    def _miss_keepalive(self, held_since: float) -> None:
        if self._held_since == held_since:
            self._fail("the peer does not answer")

    def _fail(self, message: str) -> None:
        if self._failed is None:
            self._failed = PawlError("unavailable", message, retry_after_seconds=1)
            self._responses.put(self._failed)

    def _drop_server(self) -> None:
        if self._serving is not None:
            self._serving.cancel()

    async def _serve(self, servicer: WorkServicer) -> None:
        try:
            async for response in servicer.Work(self._received(), None):
                self.down.send(response)
            self.down.send(None)
        except PawlError as error:
            self.down.send(error)
        except asyncio.CancelledError:
            self.down.send(PawlError("unavailable", "the server has ended the call"))
            raise
        except Exception as error:
            refusal = database_refusal(error)
            if refusal is None:
                raise
            self.down.send(refusal)

    async def _received(self) -> AsyncIterator[WorkRequest]:
        while (message := await self._requests.get()) is not None:
            yield message
