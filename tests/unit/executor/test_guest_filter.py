"""The filter of system calls, run call by call as the kernel would, for both kinds of machine."""

from __future__ import annotations

import errno
import struct

import pytest

from services.executor.sandbox.guest.syscall_filter import Instruction, filter_program
from services.executor.sandbox.guest.syscalls import FREE, MACHINES, UNKNOWN, rules

PROCESS = 7
ALLOWED, KILLED = 0x7FFF0000, 0x80000000
REFUSED = 0x00050000 | errno.EPERM
MISSING = 0x00050000 | errno.ENOSYS

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
I386, ARM = 0x40000003, 0x40000028


def judged(program: list[Instruction], number: int, *arguments: int, architecture: int) -> int:
    """What the kernel does with a call: the value that the program returns."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=iIQ6Q", number, architecture, 0, *padded)
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, operand = program[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, operand)
            case 0x54:
                accumulator &= operand
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x35:
                at += if_true if accumulator >= operand else if_false
            case 0x06:
                return operand
            case _:
                raise AssertionError(f"no operation {operation:#x}")


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def number_of(name: str, machine: str) -> int:
    numbers = rules(PROCESS)[name].numbers
    number = numbers[MACHINES.index(machine)]
    assert number is not None
    return number


def answer_to(machine: str, name: str, *arguments: int) -> int:
    program = filter_program(machine, PROCESS)
    number = number_of(name, machine)
    return judged(program, number, *arguments, architecture=ARCHITECTURES[machine])


def test_every_number_is_answered_by_its_list(machine: str) -> None:
    program, column = filter_program(machine, PROCESS), MACHINES.index(machine)
    free = {numbers[column] for numbers in FREE.values()}
    unknown = {numbers[column] for numbers in UNKNOWN.values()}
    ruled = {rule.numbers[column] for rule in rules(PROCESS).values()}

    for number in range(2000):
        found = judged(program, number, architecture=ARCHITECTURES[machine])
        if number in free:
            assert found == ALLOWED, number
        elif number in unknown:
            assert found == MISSING, number
        elif number not in ruled:
            assert found == REFUSED, number


def test_no_call_is_listed_twice(machine: str) -> None:
    column = MACHINES.index(machine)
    tables = [*FREE.values(), *UNKNOWN.values(), *(r.numbers for r in rules(PROCESS).values())]
    numbers = [pair[column] for pair in tables if pair[column] is not None]

    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("architecture", [I386, ARM, 0])
def test_calls_of_another_machine_kill(machine: str, architecture: int) -> None:
    assert judged(filter_program(machine, PROCESS), 1, architecture=architecture) == KILLED


def test_calls_of_the_third_kind_kill(machine: str) -> None:
    program = filter_program(machine, PROCESS)

    for number in (0x40000000, 0x40000027, -1):
        found = judged(program, number, architecture=ARCHITECTURES[machine])
        assert found == KILLED


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("clone", (0x003D0F00,)),
        ("fcntl", (3, 1030)),
        ("ioctl", (1, 0x5401)),
        ("ioctl", (1, 0xFFFFFFFF_00005401)),
        ("kill", (PROCESS, 15)),
        ("prctl", (15, 0)),
        ("prlimit64", (0, 7)),
        ("socket", (1, 1, 0)),
        ("socketpair", (1, 1, 0)),
        ("tgkill", (PROCESS, PROCESS, 6)),
    ],
)
def test_allowed_argument(machine: str, name: str, arguments: tuple[int, ...]) -> None:
    assert answer_to(machine, name, *arguments) == ALLOWED


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("clone", (17,)),
        ("clone", (0x4111,)),
        ("clone", (0x10000 | 0x10000000,)),
        ("clone", (0x10000 | 0x20000000,)),
        ("clone", (0x10000 | 0x00020000,)),
        ("fcntl", (3, 8, 1)),
        ("fcntl", (3, 1031, 2**20)),
        ("ioctl", (0, 0x5412)),
        ("kill", (1, 9)),
        ("kill", (0, 9)),
        ("kill", (0xFFFFFFFF, 9)),
        ("prctl", (4, 1)),
        ("prctl", (22, 2)),
        ("prlimit64", (1, 0)),
        ("socket", (2, 1)),
        ("socket", (38, 5)),
        ("socket", (40, 1)),
        ("socketpair", (30, 1)),
        ("tgkill", (1, 1, 9)),
    ],
)
def test_refused_argument(machine: str, name: str, arguments: tuple[int, ...]) -> None:
    assert answer_to(machine, name, *arguments) == REFUSED


def test_there_is_no_filter_for_other_machines() -> None:
    with pytest.raises(OSError, match="no filter for riscv64"):
        filter_program("riscv64", PROCESS)
