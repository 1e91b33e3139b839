"""Which version of a tool is newer.

A version is `release[-prerelease][+build]`. Releases compare part by part (parts are split at dots
and between digits and letters; numbers by value, a number above a word, a longer release above its
beginning). With equal releases one without a prerelease is newer than one with. Then prereleases
compare like releases, then builds; a version with a build is newer than one without.
"""

from __future__ import annotations

import re

_PART = re.compile(r"[0-9]+|[^0-9._]+")

Key = tuple[tuple[int, int, str], ...]


def version_key(version: str) -> tuple[Key, bool, Key, Key, str]:
    """Sorts versions from oldest to newest; the text itself parts what is otherwise equal."""
    rest, _, build = version.partition("+")
    release, dash, prerelease = rest.partition("-")
    return (_parts(release), not dash, _parts(prerelease), _parts(build), version)


def _parts(text: str) -> Key:
    return tuple(
        (1, int(part), "") if part.isdecimal() else (0, 0, part) for part in _PART.findall(text)
    )
