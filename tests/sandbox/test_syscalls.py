"""The kernel as code sees it: what is listed works, all else is refused."""

from __future__ import annotations

import errno
import platform

from services.executor.sandbox.guest.syscalls import FREE, MACHINES, UNKNOWN, rules
from tests.sandbox.guest_world import GuestWorld

# Without two that the kernel answers before any filter: its own probes; others they kill.
NUMBERS = set(range(640)) - {335, 336}
FAMILIES = range(46)
ANYBODY = 1

# Ways out of other sandboxes; their numbers on x86_64 and aarch64.
NOTORIOUS = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "execve": (59, 221),
    "execveat": (322, 281),
    "finit_module": (313, 273),
    "fsopen": (430, 430),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "seccomp": (317, 277),
    "semget": (64, 190),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setuid": (105, 146),
    "shmget": (29, 194),
    "splice": (275, 76),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "tkill": (200, 130),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
}

_CALL_EACH = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
result = {}
for number in input_data:
    ctypes.set_errno(0)
    answer = libc.syscall(number, 0, 0, 0, 0, 0, 0)
    result[number] = ctypes.get_errno() if answer == -1 else 0
"""

_SOCKETS = """
import socket
result = []
for call in (socket.socket, socket.socketpair):
    for family in range(input_data):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try:
                call(family, kind)
            except PermissionError:
                continue
            except OSError:
                pass
            result.append(family)
"""


def numbers(table: dict[str, tuple[int | None, int | None]]) -> set[int]:
    """Those of this machine."""
    column = MACHINES.index(platform.machine())
    return {found for pair in table.values() if (found := pair[column]) is not None}


async def test_every_call_that_is_not_listed_is_refused(guests: GuestWorld) -> None:
    listed = numbers(FREE) | numbers(UNKNOWN)
    listed |= numbers({name: rule.numbers for name, rule in rules(ANYBODY).items()})

    found = await guests.result(_CALL_EACH, input=sorted(NUMBERS - listed))

    assert {number: code for number, code in found.items() if code != errno.EPERM} == {}
    assert len(found) > 400


async def test_no_notorious_call_is_listed(guests: GuestWorld) -> None:
    found = await guests.result(_CALL_EACH, input=sorted(numbers(dict(NOTORIOUS))))

    assert {number: code for number, code in found.items() if code != errno.EPERM} == {}
    assert not set(NOTORIOUS) & (set(FREE) | set(rules(ANYBODY)))


async def test_a_thread_is_started_by_the_older_call(guests: GuestWorld) -> None:
    found = await guests.result(_CALL_EACH, input=sorted(numbers(UNKNOWN)))

    assert set(found.values()) == {errno.ENOSYS}


async def test_sockets_are_local_only(guests: GuestWorld) -> None:
    found = await guests.result(_SOCKETS, input=len(FAMILIES))

    assert set(found) == {1}


async def test_calls_of_another_kind_kill(guests: GuestWorld) -> None:
    if platform.machine() != "x86_64":
        return
    answer = await guests.run("import ctypes; ctypes.CDLL(None).syscall(0x40000000 + 39)")

    assert (answer["code"], answer["signal"]) == ("CRASHED", 31)
