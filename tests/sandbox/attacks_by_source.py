"""Source that is odd, or that its parser or compiler may not survive."""

from __future__ import annotations

from typing import Any

from tests.sandbox.attacks import Attack


def refused_source(name: str, code: str, found: str = "") -> Attack:
    """Source that is never run."""
    return Attack(name=name, code=code, word="CODE_ERROR", found=found)


def read(name: str, code: str, found: Any = 1) -> Attack:
    """Source that is unusual and right."""
    return Attack(name=name, code=code, found=found)


_NESTED = "nested"

BOMBS = [
    refused_source("brackets", "x = " + "[" * 250_000, _NESTED),
    refused_source("pairs-of-brackets", "(" * 125_000 + ")" * 125_000, _NESTED),
    refused_source("words", "x = " + "not " * 60_000 + "1", _NESTED),
    refused_source("tildes", "~" * 250_000 + "1", _NESTED),
    refused_source("sums", "x = " + "1+" * 100_000 + "1", "recursion"),
    refused_source("attributes", "x = a" + ".a" * 100_000, "recursion"),
    refused_source("calls", "x = a" + "()" * 100_000, "recursion"),
    refused_source("functions", "x = " + "lambda:" * 30_000 + "1", _NESTED),
    refused_source("branches", "if 0: pass\n" + "elif 0: pass\n" * 15_000, _NESTED),
    refused_source("indents", "\n".join(" " * n + "if 1:" for n in range(150)), "levels"),
    refused_source("comprehensions", "x = " + "[0 for a in " * 3000, _NESTED),
    refused_source("patterns", "match 1:\n  case " + "(" * 5000 + "1" + ")" * 5000 + ": pass"),
    refused_source("formats", "x = " + 'f"{' * 40_000),
    refused_source("stars", "x = " + "*" * 250_000, "invalid syntax"),
    refused_source("digits", "x = " + "9" * 250_000, "4300 digits"),
    read("hexadecimal-digits", "x = 0x" + "f" * 250_000 + "\nresult = 1"),
    read("one-name", "x" * 250_000 + " = 1\nresult = 1"),
    read("one-line", "result = len('" + "a" * 250_000 + "')", 250_000),
    read("many-lines", "x = 1\n" * 40_000 + "result = x"),
    read("many-numbers", "x = " + "1," * 100_000 + "\nresult = len(x)", 100_000),
    read(
        "many-arguments", "def f(" + ",".join(f"a{n}" for n in range(20_000)) + "): pass\nresult=1"
    ),
    Attack(
        name="number-while-it-is-compiled",
        code="x = 2 ** 2 ** 2 ** 2 ** 2 ** 2",
        word="WALL",
        limits={"wall_seconds": 0.5},
    ),
]

SPELLINGS = [
    refused_source("byte-order-mark", "\ufeffresult = 1", "U+FEFF"),
    refused_source("vertical-tab", "x = 1\x0b\nresult = 1", "U+000B"),
    refused_source("nul-in-comment", "# \0\nresult = 1", "null bytes"),
    refused_source("half-pair-in-comment", "# \udcff\nresult = 1", "surrogates"),
    refused_source("await", "await x", "outside function"),
    refused_source("yield", "yield 1", "outside function"),
    refused_source("return", "return 1", "outside function"),
    read("name-of-an-encoding", "# -*- coding: latin-1 -*-\nresult = 'é'", "é"),
    read("name-of-no-encoding", "# -*- coding: nonsense -*-\nresult = 1"),
    read("name-of-a-wide-encoding", "# coding: utf-16\nresult = 1"),
    read("windows-lines", "x = 1\r\nresult = x\r\n"),
    read("old-mac-lines", "x = 1\rresult = x\r"),
    read("form-feeds", "\x0cx = 1\n\x0cresult = x\n"),
    read("other-space-in-text", "result = '\u2028\u00a0' == '\\u2028\\u00a0'", True),
    read("future", "from __future__ import annotations\nresult = 1"),
]
