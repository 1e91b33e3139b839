"""Releases of the engine's parts with known ways out of a container."""

from __future__ import annotations

import re

from libs.process.logs import get_logger
from services.executor.sandbox.docker_engine import EngineVersion

Release = tuple[int, int, int]

_RELEASE = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
_RUNC_FIXES: tuple[tuple[str, tuple[Release, ...]], ...] = (
    ("CVE-2024-21626", ((1, 1, 12),)),
    # Of the branches 1.2 and 1.3; 1.1 has got no fix.
    ("CVE-2025-31133, CVE-2025-52565, CVE-2025-52881", ((1, 2, 8), (1, 3, 3))),
)

log = get_logger(__name__)


def warn_of_old_parts(version: EngineVersion) -> None:
    """Log what is known of this engine's runc: an update is due, or a distribution's own fix."""
    holes = known_holes(version.runc)
    if holes:
        log.warning(
            "runc of this release lets code out of a container, unless the distribution mended it",
            runc=version.runc,
            engine=version.engine,
            known=holes,
        )


def known_holes(runc: str) -> list[str]:
    """What is known of a release of runc; nothing for one that cannot be read."""
    found = _RELEASE.match(runc)
    if found is None:
        return []
    release = (int(found[1]), int(found[2]), int(found[3]))
    return [holes for holes, fixes in _RUNC_FIXES if not _is_fixed(release, fixes)]


def _is_fixed(release: Release, fixes: tuple[Release, ...]) -> bool:
    """Fixed in its own branch, or younger than all branches that were."""
    same_branch = [fix for fix in fixes if fix[:2] == release[:2]]
    return release >= same_branch[0] if same_branch else release > fixes[-1]
