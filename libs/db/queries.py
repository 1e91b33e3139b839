"""Named SQL: blocks of a `queries.sql`, compiled once from `:name` to what psycopg binds.

A block is a line `-- name --`, one or more comment lines with its purpose, then one statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEADER = re.compile(r"^--[ ]*(?P<name>[a-z][a-z0-9_]*)[ ]*--[ ]*$", re.MULTILINE)

# Whatever may hold a colon or a percent sign that is not ours, in the order PostgreSQL reads them.
_TOKEN = re.compile(
    r"""
      (?P<comment>--[^\n]*|/\*.*?\*/)
    | (?P<escaped>\b[eE]'(?:[^'\\]|\\.|'')*')
    | (?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<dollar>\$(?P<tag>[A-Za-z_]*)\$.*?\$(?P=tag)\$)
    | (?P<cast>::|:=)
    | :(?P<parameter>[a-z][a-z0-9_]*)
    | (?P<percent>%)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One block: `text` for psycopg, `source` as written, purpose, parameters in order.

    `raw` is the same with PostgreSQL's own $1, $2 … for `parameters`: nothing is left for psycopg
    to translate each time it is executed.
    """

    name: str
    purpose: str
    source: str
    text: str
    raw: bytes
    parameters: tuple[str, ...]

    def bound(self, parameters: Mapping[str, Any]) -> list[Any]:
        """The values of `parameters` in the order of `raw`; KeyError for one that is missing."""
        return [parameters[name] for name in self.parameters]

    @property
    def is_system(self) -> bool:
        """Whether the block says `-- system`: it is meant to see every tenant."""
        return re.search(r"^\s*--\s*system\b", self.source, re.MULTILINE) is not None


class Queries(Mapping[str, str]):
    """The blocks of one file: `queries["claim"]` is the text to execute.

    A block without parameters is executed without a mapping of parameters.
    """

    def __init__(self, path: Path, blocks: Mapping[str, Query]) -> None:
        self._path = path
        self._blocks = blocks

    def __getitem__(self, name: str) -> str:
        return self.block(name).text

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def block(self, name: str) -> Query:
        """The whole block; KeyError names the file and what it has."""
        try:
            return self._blocks[name]
        except KeyError:
            known = ", ".join(self._blocks)
            raise KeyError(f"{self._path} has no query {name!r}; it has {known}") from None

    def purpose(self, name: str) -> str:
        """The comment lines under the block's name, in one line."""
        return self.block(name).purpose


def load_queries(path: Path) -> Queries:
    """Read and compile a file of named blocks; ValueError names what is malformed."""
    text = path.read_text(encoding="utf-8")
    headers = list(_HEADER.finditer(text))
    if not headers:
        raise ValueError(f"{path}: no query; a block starts with a line like `-- claim_task --`")
    ends = [header.start() for header in headers[1:]] + [len(text)]
    blocks: dict[str, Query] = {}
    for header, end in zip(headers, ends, strict=True):
        name = header["name"]
        if name in blocks:
            raise ValueError(f"{path}: the query {name!r} stands there twice")
        blocks[name] = _compile(path, name, text[header.end() : end].strip())
    return Queries(path, blocks)


def _compile(path: Path, name: str, source: str) -> Query:
    purpose = _purpose(source)
    if not purpose:
        raise ValueError(f"{path}: the query {name!r} has no purpose line")
    named = tuple(dict.fromkeys(m["parameter"] for m in _TOKEN.finditer(source) if m["parameter"]))
    numbers = {parameter: f"${number}" for number, parameter in enumerate(named, start=1)}
    compiled = _compact(source, lambda token: _translate(token, bound=bool(named)))
    if not compiled:
        raise ValueError(f"{path}: the query {name!r} has no statement")
    return Query(
        name=name,
        purpose=purpose,
        source=source,
        text=compiled,
        raw=_compact(source, lambda token: _numbered(token, numbers)).encode(),
        parameters=named,
    )


def _compact(source: str, translate: Callable[[re.Match[str]], str]) -> str:
    text = _TOKEN.sub(translate, source)
    lines = [line.strip() for line in text.splitlines()] if _is_plain(source) else [text]
    return "\n".join(line for line in lines if line).strip().removesuffix(";")


def _numbered(token: re.Match[str], numbers: Mapping[str, str]) -> str:
    if token["comment"]:
        return " "
    return numbers[token["parameter"]] if token["parameter"] else token[0]


def _translate(token: re.Match[str], *, bound: bool) -> str:
    # Comments go: psycopg caches its own parsing of short texts only, and the server reads less.
    if token["comment"]:
        return " "
    if token["parameter"]:
        return f"%({token['parameter']})s"
    # psycopg looks for % in the whole text, literals included, but only when it binds something.
    return token[0].replace("%", "%%") if bound else token[0]


def _is_plain(source: str) -> bool:
    """Whether no literal spans lines, so that indentation may go."""
    return all(token["comment"] or "\n" not in token[0] for token in _TOKEN.finditer(source))


def _purpose(source: str) -> str:
    lines = []
    for line in source.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return " ".join(line for line in lines if line != "system")
