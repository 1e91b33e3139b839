"""The few calls of the C library that Python does not offer."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38

_M_ARENA_MAX = -8


def prctl(option: int, value: int, pointer: int = 0) -> None:
    """Change something about this process. OSError when the kernel refuses."""
    if _LIBC.prctl(option, value, ctypes.c_void_p(pointer), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def share_one_heap() -> None:
    """Make all threads allocate from one heap: more of them would fill the address space."""
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_M_ARENA_MAX, 1)
