"""The filter of system calls: a program for the kernel, from the lists in syscalls.py."""

import ctypes
import errno
import os
import struct

from . import libc
from .syscalls import FREE, MACHINES, UNKNOWN, Numbers, Rule, rules

Instruction = tuple[int, int, int, int]
"""Operation, how many to skip if true and if false, operand."""

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_FILTER_MODE = 2

_LOAD, _MASK, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32_NUMBERS = 0x40000000
"""Calls of a third kind on x86_64, with other numbers: from here on."""

_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_ERROR = 0x00050000


def install(process_id: int) -> None:
    """Allow this process what the lists say, for ever. OSError when that cannot be."""
    program = filter_program(os.uname().machine, process_id)
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    code = ctypes.create_string_buffer(packed, len(packed))
    head = struct.pack("@HP", len(program), ctypes.addressof(code))
    holder = ctypes.create_string_buffer(head, len(head))
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    libc.prctl(libc.PR_SET_SECCOMP, _FILTER_MODE, ctypes.addressof(holder))


def filter_program(machine: str, process_id: int) -> list[Instruction]:
    """The program for a machine. Another kind of call kills; all else that is refused is EPERM."""
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"there is no filter for {machine}, but for {MACHINES}")
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _X32_NUMBERS),
        (_RETURN, 0, 0, _KILL),
    ]
    column = MACHINES.index(machine)
    for numbers in FREE.values():
        program += _answer(numbers, column, _ALLOW)
    for numbers in UNKNOWN.values():
        program += _answer(numbers, column, _ERROR | errno.ENOSYS)
    for rule in rules(process_id).values():
        program += _judge(rule, column)
    program.append((_RETURN, 0, 0, _ERROR | errno.EPERM))
    return program


def _answer(numbers: Numbers, column: int, answer: int) -> list[Instruction]:
    number = numbers[column]
    if number is None:
        return []
    return [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer)]


def _judge(rule: Rule, column: int) -> list[Instruction]:
    """Look at the low half of the argument: of all these, the kernel takes no more than that."""
    number = rule.numbers[column]
    if number is None:
        return []
    body: list[Instruction] = [
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * rule.argument),
        (_MASK, 0, 0, rule.mask),
    ]
    for value in rule.values:
        body += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    body.append((_RETURN, 0, 0, _ERROR | errno.EPERM))
    return [(_EQUAL, 0, len(body), number), *body]
