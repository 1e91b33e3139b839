"""`pawl up`: the promises that do not depend on what the services do (they are stand-ins here)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from libs.cli.up import ready_file
from libs.cli.up.health import is_serving
from libs.cli.up.processes import mark_of
from libs.cli.up.ready_file import Instance, ReadyFile
from libs.db.embedded import EmbeddedPostgres
from tests.e2e.ups import ROOT, Up, all_pids, end, start_up
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

StartUp = Callable[..., Up]


@pytest_asyncio.fixture(scope="module")
async def used_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that Pawl has run in before."""
    data_dir = tmp_path_factory.mktemp("up") / "data"
    up = start_up(data_dir)
    try:
        await up.ready()
        assert await up.stop() == 0
    finally:
        await end(up)
    return data_dir


@pytest.fixture
def data_dir(used_data_dir: Path, tmp_path: Path) -> Path:
    """A copy of it, with owners and modes."""
    shutil.copytree(used_data_dir, tmp_path / "data", copy_function=shutil.copy2, symlinks=True)
    for source in used_data_dir.rglob("*"):
        owner = source.stat()
        copy = tmp_path / "data" / source.relative_to(used_data_dir)
        os.chown(copy, owner.st_uid, owner.st_gid)
    return tmp_path / "data"


@pytest.fixture
async def start() -> AsyncIterator[StartUp]:
    """Starts a `pawl up`, several if wanted; ends them after the test."""
    started: list[Up] = []

    def start(data_dir: Path, *options: str, env: dict[str, str] | None = None) -> Up:
        started.append(start_up(data_dir, *options, env=env))
        return started[-1]

    yield start
    for up in started:
        await end(up)


def instance(ready: ReadyFile | None, service: str) -> Instance:
    assert ready is not None
    return ready.services[service][0]


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_first_start_makes_everything_and_the_second_finds_it(
    tmp_path: Path, start: StartUp
) -> None:
    data_dir, elsewhere = tmp_path / "data", tmp_path / "elsewhere.json"
    first = start(data_dir, "--ready-file", str(elsewhere))
    await eventually(lambda: ready_file.read(elsewhere), timeout=60)
    before = await first.ready()
    assert ready_file.read(elsewhere) == before
    assert (mode_of(elsewhere), mode_of(data_dir / "ready.json")) == (0o600, 0o600)
    assert mode_of(data_dir / "secrets") == 0o700
    assert mode_of(data_dir / "secrets" / "api_key") == 0o600
    assert await first.stop() == 0
    assert not (data_dir / "ready.json").exists()
    assert not elsewhere.exists()

    second = start(data_dir)
    after = await second.ready()

    assert after.api_key == before.api_key
    assert (data_dir / "bootstraps").read_text() == "--tenant default --tier enterprise\n"
    assert [after.services[name][0].address for name in after.services] == [
        before.services[name][0].address for name in before.services
    ]
    assert all_pids(after).isdisjoint(all_pids(before))


async def test_ready_file_tells_where_everything_is(data_dir: Path, start: StartUp) -> None:
    up = start(data_dir, "--executors", "2", "--schedulers", "2")
    ready = await up.ready()

    assert ready.pid == up.process.pid
    assert ready.data_dir == str(data_dir)
    assert ready.version.startswith("pawl")
    assert ready.url == f"http://{ready.services['gateway'][0].address}"
    assert {name: len(instances) for name, instances in ready.services.items()} == {
        "auth": 1,
        "planner": 1,
        "scheduler": 2,
        "executor": 2,
        "artifact": 1,
        "gateway": 1,
    }
    assert [one.instance for one in ready.services["executor"]] == ["executor-1", "executor-2"]
    assert all(mark_of(pid) is not None for pid in all_pids(ready))
    assert await is_serving(instance(ready, "auth").metrics_address)
    with psycopg.connect(ready.postgres.dsn) as connection:
        assert connection.info.dbname == "pawl"
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE x ()")
    for said in (ready.url, ready.api_key, "✓ executor-2", "curl"):
        assert said in up.console


async def test_second_up_on_the_same_directory_is_refused(data_dir: Path, start: StartUp) -> None:
    first = start(data_dir)
    ready = await first.ready()

    second = start(data_dir)

    assert await second.ended() == 2
    assert f"already running in {data_dir} (pid {first.process.pid})" in second.console
    assert first.ready_now() == ready


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("secrets/api_key", b"\xd1\x00\n"),
        ("secrets/db_scheduler_password", b""),
        ("secrets/db_scheduler_password", b"\x9e"),
        ("secrets/service_executor.jwk", b'{"kty'),
        ("secrets/public_keys.json", b""),
        ("state.json", b'{"ports": {"gateway-1.listen": 99999}, "processes": {}}'),
    ],
)
async def test_damaged_file_does_not_keep_it_from_starting(
    data_dir: Path, start: StartUp, name: str, kept: bytes
) -> None:
    (data_dir / name).write_bytes(kept)

    up = start(data_dir)

    assert (await up.ready()).pid == up.process.pid
    assert (data_dir / name).read_bytes() != kept
    assert "Traceback" not in up.console


@pytest.mark.parametrize("place", ["nowhere/ready.json", "taken"])
async def test_ready_file_that_cannot_be_written_is_said_at_once(
    data_dir: Path, tmp_path: Path, start: StartUp, place: str
) -> None:
    (tmp_path / "taken").mkdir()

    up = start(data_dir, "--ready-file", str(tmp_path / place))

    assert await up.ended() == 2
    assert f"cannot write the ready file {tmp_path / place}" in up.console


async def test_damaged_note_of_the_database_server_does_not_keep_it_from_starting(
    data_dir: Path, start: StartUp
) -> None:
    (data_dir / "pg" / "18" / "cluster" / "postmaster.pid").write_bytes(b"\xff\xfe")

    up = start(data_dir)

    await up.ready()
    assert "Traceback" not in up.console


async def test_database_that_cannot_write_its_files_is_tried_again(
    data_dir: Path, start: StartUp
) -> None:
    in_the_way = data_dir / "pg" / "18" / "cluster" / "pg_hba.conf.pawl"
    in_the_way.mkdir()
    up = start(data_dir)
    await eventually(lambda: "postgres: [Errno 21] Is a directory" in up.console, timeout=20)

    in_the_way.rmdir()

    await up.ready()


@pytest.mark.parametrize("service", ["scheduler", "gateway"])
async def test_killed_service_is_started_again_where_it_was(
    data_dir: Path, start: StartUp, service: str
) -> None:
    up = start(data_dir)
    before = instance(await up.ready(), service)

    os.kill(before.pid, signal.SIGKILL)
    await eventually(lambda: instance(up.ready_now(), service).pid != before.pid, timeout=20)

    after = instance(up.ready_now(), service)
    assert (after.address, after.metrics_address) == (before.address, before.metrics_address)
    assert mark_of(after.pid) is not None
    assert f"{service}-1: killed by SIGKILL" in up.console
    assert f"log: {data_dir}/logs/{service}.log" in up.console
    assert f"{service}-1 is back" in up.console
    assert await up.stop() == 0


async def test_killed_postgres_is_started_again_with_everything(
    data_dir: Path, start: StartUp
) -> None:
    up = start(data_dir)
    before = (await up.ready()).postgres
    assert before.pid is not None

    os.kill(before.pid, signal.SIGKILL)

    def pid_now() -> int | None:
        ready = up.ready_now()
        return None if ready is None else ready.postgres.pid

    await eventually(lambda: pid_now() != before.pid, timeout=30)
    with psycopg.connect(before.dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert "postgres: killed by SIGKILL" in up.console


async def test_killed_parent_takes_everybody_along_and_the_next_one_starts(
    data_dir: Path, start: StartUp
) -> None:
    first = start(data_dir)
    await first.ready()

    first.process.kill()

    await eventually(lambda: not any(mark_of(pid) for pid in first.pids), timeout=10)
    await first.ended()
    assert (data_dir / "ready.json").exists()
    assert first.ready_now() is None
    second = start(data_dir)
    assert (await second.ready()).pid == second.process.pid
    log = (data_dir / "logs" / "postgres.log").read_text()
    assert "was not properly shut down" not in log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_stop_ends_all_in_order_the_database_last(
    data_dir: Path, start: StartUp, number: signal.Signals
) -> None:
    up = start(data_dir)
    await up.ready()
    (data_dir / "stopped").unlink()

    assert await up.stop(number) == 0

    order = (data_dir / "stopped").read_text().split()
    assert order[:3] == ["gateway", "executor", "scheduler"]
    assert sorted(order[3:]) == ["artifact", "auth", "planner"]
    assert not any(mark_of(pid) for pid in up.pids)
    log = (data_dir / "logs" / "postgres.log").read_text().splitlines()
    assert "database system is shut down" in log[-1]
    assert "Stopped in" in up.console


async def test_second_signal_waits_for_nobody(data_dir: Path, start: StartUp) -> None:
    (data_dir / "stubborn-executor").write_text("")
    up = start(data_dir)
    await up.ready()
    (data_dir / "stopped").unlink()
    up.process.send_signal(signal.SIGTERM)
    await eventually((data_dir / "stopped").exists, timeout=10)

    assert await up.stop() == 0

    assert not any(mark_of(pid) for pid in up.pids)
    assert "starting it again" not in up.console


async def test_stop_while_starting_leaves_nothing(tmp_path: Path, start: StartUp) -> None:
    up = start(tmp_path / "data")
    state = tmp_path / "data" / "state.json"
    await eventually(lambda: state.exists() and "auth-1" in state.read_text(), timeout=30)
    await eventually(lambda: json.loads(state.read_text())["processes"], timeout=30)
    pids = [mark["pid"] for mark in json.loads(state.read_text())["processes"].values()]

    assert await up.stop() == 0

    assert not any(mark_of(pid) for pid in pids)
    assert not (tmp_path / "data" / "ready.json").exists()
    assert json.loads(state.read_text())["processes"] == {}


async def test_service_that_fails_at_first_is_tried_again(data_dir: Path, start: StartUp) -> None:
    (data_dir / "fail-planner").write_text("3")
    up = start(data_dir)
    await eventually(lambda: "the disk is on fire" in up.console, timeout=20)
    assert "planner-1: exit code 3" in up.console
    assert up.ready_now() is None

    (data_dir / "fail-planner").unlink()

    assert instance(await up.ready(), "planner").pid > 0


async def test_service_with_bad_settings_ends_the_start(data_dir: Path, start: StartUp) -> None:
    (data_dir / "fail-planner").write_text("2")
    up = start(data_dir)

    assert await up.ended() == 1

    assert "planner-1 cannot run like this (exit code 2)" in up.console
    assert "planner: this setting is not allowed" in up.console
    assert f"{data_dir}/logs/planner.log" in up.console
    assert not (data_dir / "ready.json").exists()


async def test_port_in_use_is_named(data_dir: Path, start: StartUp, tmp_path: Path) -> None:
    first = start(data_dir)
    port = instance(await first.ready(), "gateway").address.rpartition(":")[2]

    second = start(tmp_path / "other", "--port", port)

    assert await second.ended() == 2
    assert f"port {port} is in use" in second.console


def _sleeper(data_dir: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.pause()"],
        env={**os.environ, "PAWL_DATA_DIR": str(data_dir)},
    )


async def test_leftovers_of_this_directory_are_ended_and_nobody_else(
    data_dir: Path, start: StartUp
) -> None:
    left, stranger = _sleeper(data_dir), _sleeper(data_dir.with_name("another"))
    try:
        marks = {"executor-1": mark_of(left.pid), "auth-1": mark_of(stranger.pid)}
        state = json.loads((data_dir / "state.json").read_text())
        state["processes"] = {
            name: {"pid": mark.pid, "started": mark.started} for name, mark in marks.items() if mark
        }
        (data_dir / "state.json").write_text(json.dumps(state))

        up = start(data_dir)
        await up.ready()

        assert left.wait(timeout=5) == -signal.SIGTERM
        assert stranger.poll() is None
        assert "ended executor-1" in up.console
    finally:
        for process in (left, stranger):
            process.kill()
            process.wait()


async def test_server_of_somebody_else_is_used_and_left_running(
    tmp_path: Path, start: StartUp
) -> None:
    async with EmbeddedPostgres(tmp_path / "pg", log_path=tmp_path / "pg.log") as postgres:
        up = start(tmp_path / "data", env={"PAWL_DATABASE_URL": postgres.owner_dsn})
        ready = await up.ready()
        with psycopg.connect(ready.postgres.dsn) as connection:
            assert connection.info.user == "pawl_inspector"
        assert await up.stop() == 0
        with psycopg.connect(postgres.owner_dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)

    assert ready.postgres.pid is None
    assert not (tmp_path / "data" / "pg" / "18").exists()


async def test_server_that_cannot_be_reached_is_named(tmp_path: Path, start: StartUp) -> None:
    up = start(tmp_path / "data", env={"PAWL_DATABASE_URL": "postgresql://x:y@127.0.0.1:9/pawl"})

    assert await up.ended() == 2
    assert "the database cannot be reached" in up.console


async def test_what_lies_in_the_working_directory_is_not_run(
    data_dir: Path, start: StartUp
) -> None:
    (data_dir / "libs.py").write_text("raise SystemExit('taken over')")
    (data_dir / "tests.py").write_text("raise SystemExit('taken over')")
    up = start(data_dir, env={"PYTHONPATH": str(ROOT)})

    await up.ready()

    assert "taken over" not in up.console
