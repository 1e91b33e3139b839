"""What bwrap is told, and what operators are told when it does not help."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.executor.sandbox.bubblewrap_arguments import bwrap_arguments
from services.executor.sandbox.bubblewrap_refusal import refusal


def arguments(host: Path = Path("/nowhere")) -> str:
    files = [("a.py", 5), ("b.py", 6)]
    found = bwrap_arguments(python="/usr/bin/python3", files=files, info_descriptor=9, host=host)
    return " ".join(found)


def test_guest_has_namespaces_of_its_own_and_no_environment_of_ours() -> None:
    found = arguments()

    for name in ("user", "pid", "net", "ipc", "uts", "cgroup-try"):
        assert f"--unshare-{name}" in found
    for name in ("die-with-parent", "disable-userns", "new-session", "as-pid-1", "clearenv"):
        assert f"--{name}" in found
    assert "--cap-drop ALL" in found
    assert found.endswith("-- /usr/bin/python3 -s -B /sandbox/guest")


def test_guest_is_copied_and_cannot_be_changed() -> None:
    found = arguments()

    assert "--perms 0444 --file 5 /sandbox/guest/a.py --perms 0444 --file 6" in found
    assert found.index("--file 6") < found.index("--remount-ro / ")


def test_directories_beside_usr_are_as_on_the_host(tmp_path: Path) -> None:
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "lib64").mkdir()

    found = arguments(tmp_path)

    assert "--symlink usr/bin /bin" in found
    assert "--ro-bind /lib64 /lib64" in found
    assert "/lib32" not in found


def test_what_was_installed_beside_the_system_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "usr" / "local").mkdir(parents=True)

    found = arguments(tmp_path)

    assert "--tmpfs /usr/local --remount-ro /usr/local" in found
    assert "dist-packages" not in found


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("user.max_user_namespaces", "0"),
        ("kernel.unprivileged_userns_clone", "0"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1"),
    ],
)
def test_setting_that_forbids_user_namespaces_is_named(
    tmp_path: Path, setting: str, value: str
) -> None:
    file = tmp_path / setting.replace(".", "/", 1)
    file.parent.mkdir()
    file.write_text(f"{value}\n")

    found = refusal("bwrap: setting up uid map: Permission denied\n", sysctl=tmp_path)

    assert "bwrap: setting up uid map: Permission denied" in found
    assert f"sysctl {setting} is {value}" in found


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("bwrap: No permissions to create new namespace", "inside most containers there are none"),
        ("bwrap: Unknown option --disable-userns", "bubblewrap 0.8 or newer is needed"),
        ("", "it said nothing"),
        ("bwrap: something\nelse", "bwrap: something else"),
    ],
)
def test_reason_is_told_with_what_bwrap_said(tmp_path: Path, said: str, told: str) -> None:
    found = refusal(said, sysctl=tmp_path)

    assert told in found
    assert "\n" not in found
