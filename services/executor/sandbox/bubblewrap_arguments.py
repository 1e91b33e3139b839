"""How bwrap is called: what a guest sees of this host, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from services.executor.sandbox.model import MIB

USER_ID = 65534
TMP_BYTES = 16 * MIB
GUEST = "/sandbox/guest"

_NAMESPACES = ("user", "ipc", "pid", "net", "uts")

# As in the image of the docker backend; not python3 -I or -E, which pass over PYTHONHASHSEED.
_ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108 - inside
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONSAFEPATH": "1",
    "PYTHONUTF8": "1",
    "TZ": "UTC",
}

# What comes in /usr besides the system's own: other programs, other packages.
_LEFT_OUT = ("/usr/local", "/usr/src", "/usr/lib/python3/dist-packages")
_DEVICES = ("full", "null", "random", "urandom", "zero")
_BESIDE_USR = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def bwrap_arguments(
    *, python: str, files: Iterable[tuple[str, int]], info_descriptor: int, host: Path = Path("/")
) -> list[str]:
    """The arguments of bwrap for one guest.

    `files` are the guest's, each a name and a descriptor to read it from; what bwrap says of the
    process it starts goes to `info_descriptor`. `host` is where the host's files lie.
    """
    return [
        *(f"--unshare-{name}" for name in _NAMESPACES),
        "--unshare-cgroup-try",
        "--disable-userns",
        "--die-with-parent",
        "--new-session",
        "--as-pid-1",
        *("--info-fd", str(info_descriptor)),
        *("--hostname", "sandbox"),
        *("--uid", str(USER_ID), "--gid", str(USER_ID)),
        *("--cap-drop", "ALL"),
        "--clearenv",
        *_environment(),
        *_system(host),
        *_guest(files),
        *("--chdir", "/tmp"),  # noqa: S108 - inside
        *("--", python, "-s", "-B", GUEST),
    ]


def _environment() -> list[str]:
    return [word for name, value in _ENVIRONMENT.items() for word in ("--setenv", name, value)]


def _system(host: Path) -> list[str]:
    """The system's programs to read, and room to write in /tmp alone."""
    found = ["--ro-bind", "/usr", "/usr"]
    for name in _BESIDE_USR:
        place = host / name
        if place.is_symlink():
            found += ["--symlink", str(place.readlink()), f"/{name}"]
        elif place.is_dir():
            found += ["--ro-bind", f"/{name}", f"/{name}"]
    for path in _LEFT_OUT:
        if (host / path.removeprefix("/")).is_dir():
            found += ["--tmpfs", path, "--remount-ro", path]
    found += ["--proc", "/proc", "--remount-ro", "/proc", "--tmpfs", "/dev"]
    for name in _DEVICES:
        found += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    found += ["--size", str(TMP_BYTES), "--tmpfs", "/tmp"]  # noqa: S108 - inside
    return found


def _guest(files: Iterable[tuple[str, int]]) -> list[str]:
    """Its files, copied; then nothing but /tmp can be written to."""
    found: list[str] = []
    for name, descriptor in files:
        found += ["--perms", "0444", "--file", str(descriptor), f"{GUEST}/{name}"]
    for path in ("/dev", "/"):
        found += ["--remount-ro", path]
    return found
