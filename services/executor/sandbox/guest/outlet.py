"""The reading end of a pipe whose writer is not trusted."""

import os

_PIECE_BYTES = 64 * 2**10


class Outlet:
    """Keeps the first bytes that come, up to a bound, and says when there were more."""

    def __init__(self, descriptor: int, *, max_bytes: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.content = bytearray()
        self.is_open = True
        self.is_over = False
        self._max_bytes = max_bytes

    def drain(self) -> None:
        """Read what is there, until the end, the bound or nothing more for now."""
        while self.is_open and not self.is_over:
            try:
                piece = os.read(self.descriptor, _PIECE_BYTES)
            except BlockingIOError:
                return
            if not piece:
                self.is_open = False
            room = self._max_bytes - len(self.content)
            self.content += piece[:room]
            self.is_over = len(piece) > room

    @property
    def text(self) -> str:
        """What came, as UTF-8; what is none is replaced."""
        return self.content.decode("utf-8", "replace")
