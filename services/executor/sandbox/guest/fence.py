"""Which files the code may open at all: a Landlock ruleset, where the kernel has Landlock.

A belt besides what the sandbox mounts: without it, code reads what the kernel tells everybody in
/proc and /sys.
"""

import os
import struct
import sys

from . import libc

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIRECTORY = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_UNTIL_MAKE_SYMLINK = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE

_OLDEST = 2
"""Before this version, no file could be moved from one directory to another."""

_RULE_PATH_BENEATH = 1
_READ = _READ_FILE | _READ_DIRECTORY

_READABLE = (
    "/bin",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
    "/etc",
    "/lib",
    "/lib64",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
    "/usr",
)
_WRITABLE = ("/dev/full", "/dev/null", "/tmp")


def fence_files() -> None:
    """Open what Python needs to reading, and /tmp to everything, for ever."""
    version = libc.landlock_version()
    if version < _OLDEST:
        return
    handled = _UNTIL_MAKE_SYMLINK | _REFER
    handled |= _TRUNCATE if version >= 3 else 0
    handled |= _IOCTL_DEVICE if version >= 5 else 0
    ruleset = libc.landlock_ruleset(struct.pack("=Q", handled))
    try:
        own = f"/proc/{os.getpid()}"
        for path in {*_READABLE, own, sys.prefix, sys.base_prefix}:
            _allow(ruleset, path, _READ)
        for path in _WRITABLE:
            _allow(ruleset, path, handled & ~_EXECUTE)
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
        libc.landlock_restrict(ruleset)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    """Allow it below `path`, where that is."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):  # noqa: PTH112 - without more modules
            access &= _OF_FILES
        libc.landlock_add(ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", access, descriptor))
    finally:
        os.close(descriptor)
