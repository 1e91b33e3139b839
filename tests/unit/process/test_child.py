from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from libs.process.child import ChildSpec, describe_exit, last_log_line, start_child, tied
from libs.process.env import ConfigError

_ROOT = Path(__file__).resolve().parents[3]


def python(code: str, *, log_path: Path | None = None) -> ChildSpec:
    return ChildSpec(name="probe", argv=(sys.executable, "-c", code), log_path=log_path)


async def test_output_goes_to_the_log(tmp_path: Path) -> None:
    child = await start_child(python("print('hello')\nexit(3)", log_path=tmp_path / "log"))

    assert await child.wait() == 3
    assert last_log_line(tmp_path / "log") == "hello"


async def test_stop_asks_first(tmp_path: Path) -> None:
    code = "import signal; print('up', flush=True); signal.sigwait([signal.SIGTERM]); exit(0)"
    blocked = f"import signal; signal.pthread_sigmask(0, [signal.SIGTERM]); {code}"
    child = await start_child(python(blocked, log_path=tmp_path / "log"))

    assert await child.stop(grace_seconds=10) in {0, -signal.SIGTERM}


async def test_stop_kills_whoever_does_not_listen(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "open(sys.argv[1], 'w').close(); signal.pause()"
    )
    marker = tmp_path / "listening"
    child = await start_child(
        ChildSpec(name="probe", argv=(sys.executable, "-c", code, str(marker)))
    )
    while not os.access(marker, os.F_OK):
        await asyncio.sleep(0.01)

    assert await child.stop(grace_seconds=0.05) == -signal.SIGKILL


async def test_child_dies_with_its_parent() -> None:
    code = """
import asyncio, sys
from libs.process.child import ChildSpec, start_child

async def main():
    argv = (sys.executable, "-c", "import signal; signal.pause()")
    child = await start_child(ChildSpec(name="child", argv=argv))
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=_ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    watch = os.pidfd_open(pid)
    try:
        parent.kill()
        await parent.wait()

        # A descriptor of a process becomes readable when that process ends.
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(watch, ended.set)
        await asyncio.wait_for(ended.wait(), 5)
    finally:
        asyncio.get_running_loop().remove_reader(watch)
        os.close(watch)


def test_missing_setpriv_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_args, **_options: None)

    with pytest.raises(ConfigError, match="util-linux"):
        tied(("true",), death_signal=signal.SIGKILL)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (2, "exit code 2"),
        (-9, "killed by SIGKILL"),
        (-250, "killed by signal 250"),
    ],
)
def test_exit_is_described(code: int, words: str) -> None:
    assert describe_exit(code) == words


def test_log_that_grew_too_large_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(17 * 1024 * 1024)

    async def run() -> None:
        await (await start_child(python("print('new')", log_path=log))).wait()

    asyncio.run(run())

    assert log.read_text() == "new\n"
    assert (tmp_path / "log.1").exists()


def test_last_line_of_no_log_is_empty(tmp_path: Path) -> None:
    assert last_log_line(tmp_path / "none") == ""
