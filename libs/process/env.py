"""Typed reading of environment variables that names every mistake in one message."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path

EXIT_STOPPED = 0
EXIT_FAILED = 1
EXIT_BAD_CONFIG = 2
LOG_LEVELS = ("debug", "info", "warning", "error")
"""The exit codes of every process of Pawl."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


class ConfigError(Exception):
    """A process cannot start with these settings; the message says which and what is allowed."""


class Env:
    """Reads settings from `values`. Mistakes are collected; `check()` raises them all together.

    A variable that is set to the empty string counts as not set. A reader whose `default` is None
    requires its variable.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._mistakes: list[str] = []

    def optional_text(self, name: str) -> str | None:
        """The text of `name`, or None when it is not set."""
        return self._values.get(name, "").strip() or None

    def text(self, name: str, default: str | None = None) -> str:
        """The text of `name`."""
        value = self.optional_text(name)
        if value is not None:
            return value
        if default is None:
            self._mistakes.append(f"{name} is not set")
            return ""
        return default

    def secret(self, name: str) -> str:
        """The text of `name`, or of the file that `name`_FILE names, without blanks around it."""
        path = self.optional_text(f"{name}_FILE")
        if path is None:
            return self.text(name)
        if self.optional_text(name) is not None:
            self._mistakes.append(f"{name} and {name}_FILE are both set; one is allowed")
            return ""
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self._mistakes.append(f"{name}_FILE cannot be read: {error}")
            return ""
        if not text:
            self._mistakes.append(f"{name}_FILE names an empty file: {path}")
        return text

    def integer(
        self,
        name: str,
        default: int | None = None,
        *,
        minimum: int | None = None,
        maximum: int | None = None,
    ) -> int:
        """A whole number within the bounds, both included."""
        text = self.text(name, None if default is None else str(default))
        if not text:
            return 0
        if not _INTEGER.fullmatch(text):
            self._mistakes.append(f"{name} is {text!r}; a whole number is allowed")
            return 0
        self._check_bounds(name, int(text), minimum, maximum)
        return int(text)

    def number(
        self,
        name: str,
        default: float | None = None,
        *,
        minimum: float | None = None,
        maximum: float | None = None,
    ) -> float:
        """A finite number within the bounds, both included."""
        text = self.text(name, None if default is None else repr(default))
        if not text:
            return 0.0
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self._mistakes.append(f"{name} is {text!r}; a finite number is allowed")
            return 0.0
        self._check_bounds(name, value, minimum, maximum)
        return value

    def flag(self, name: str, default: bool | None = None) -> bool:
        """Yes or no: 1, true, yes, on or 0, false, no, off."""
        text = self.text(name, None if default is None else str(int(default))).lower()
        if text and text not in _TRUE | _FALSE:
            self._mistakes.append(f"{name} is {text!r}; allowed are 1 and 0, true and false")
        return text in _TRUE

    def path(self, name: str, default: str | Path | None = None) -> Path:
        """A file system path with `~` expanded; it need not exist."""
        return Path(self.text(name, None if default is None else str(default))).expanduser()

    def choice(self, name: str, allowed: Collection[str], default: str | None = None) -> str:
        """One of `allowed`."""
        text = self.text(name, default)
        if text and text not in allowed:
            self._mistakes.append(f"{name} is {text!r}; allowed are {', '.join(sorted(allowed))}")
        return text

    def address(self, name: str, default: str | None = None) -> str:
        """`host:port`; the host may be an IPv6 address in brackets, the port 0 to 65535."""
        text = self.text(name, default)
        host, separator, port = text.rpartition(":")
        if text and not (separator and host and port.isdecimal() and int(port) <= 65535):
            self._mistakes.append(f"{name} is {text!r}; host:port is allowed")
        return text

    def refuse(self, mistake: str) -> None:
        """Add what a reader outside has found wrong; the text begins with the variable's name."""
        self._mistakes.append(mistake)

    def check(self) -> None:
        """Raise ConfigError when anything read so far was missing or malformed."""
        if self._mistakes:
            raise ConfigError("bad settings: " + "; ".join(self._mistakes))

    def _check_bounds(
        self, name: str, value: float, minimum: float | None, maximum: float | None
    ) -> None:
        if minimum is not None and value < minimum:
            self._mistakes.append(f"{name} is {value}; the least allowed is {minimum}")
        if maximum is not None and value > maximum:
            self._mistakes.append(f"{name} is {value}; the most allowed is {maximum}")
