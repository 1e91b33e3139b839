"""Why bwrap could not start a guest, and what an operator can do about it."""

from __future__ import annotations

from pathlib import Path

MESSAGE_CHARACTERS = 500

_SETTINGS = {
    "user/max_user_namespaces": "0",
    "kernel/unprivileged_userns_clone": "0",
    "kernel/apparmor_restrict_unprivileged_userns": "1",
}
"""What keeps users from making user namespaces, and how it is set then."""


def refusal(said: str, *, sysctl: Path = Path("/proc/sys")) -> str:
    """One line: what bwrap `said` on stderr, and the likely reason."""
    message = " ".join(said.split())[:MESSAGE_CHARACTERS] or "it said nothing"
    reason = _reason(message, sysctl)
    return f"bubblewrap starts no guest: {message}" + (f" ({reason})" if reason else "")


def _reason(message: str, sysctl: Path) -> str:
    if "Unknown option" in message:
        return "bubblewrap 0.8 or newer is needed"
    for name, value in _SETTINGS.items():
        if _read(sysctl / name) == value:
            return f"user namespaces are off: sysctl {name.replace('/', '.')} is {value}"
    if "namespace" in message or "uid map" in message:
        return "user namespaces are needed; inside most containers there are none"
    return ""


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
