"""The few calls of the C library that Python does not offer."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38

_M_ARENA_MAX = -8

# The same numbers on all machines.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446


def prctl(option: int, value: int, pointer: int = 0) -> None:
    """Change something about this process. OSError when the kernel refuses."""
    if _LIBC.prctl(option, value, ctypes.c_void_p(pointer), 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def share_one_heap() -> None:
    """Make all threads allocate from one heap: more of them would fill the address space."""
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_M_ARENA_MAX, 1)


def landlock_version() -> int:
    """The version of Landlock that the kernel offers; 0 when it offers none."""
    found = _LIBC.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return max(0, int(found))


def landlock_ruleset(attributes: bytes) -> int:
    """A descriptor of a new ruleset."""
    size = ctypes.c_size_t(len(attributes))
    return _checked("create", _LIBC.syscall(_LANDLOCK_CREATE_RULESET, attributes, size, 0))


def landlock_add(ruleset: int, kind: int, rule: bytes) -> None:
    """Add a rule to a ruleset."""
    _checked("rule", _LIBC.syscall(_LANDLOCK_ADD_RULE, ruleset, kind, rule, 0))


def landlock_restrict(ruleset: int) -> None:
    """Hold this thread, and what it starts, to a ruleset for ever."""
    _checked("restrict", _LIBC.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))


def _checked(what: str, answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"landlock {what}: {os.strerror(number)}")
    return answer
