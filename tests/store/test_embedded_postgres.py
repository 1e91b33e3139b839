"""The PostgreSQL that comes along: private, durable, and gone when its parent is gone."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from libs.db.embedded import EmbeddedPostgres, EmbeddedPostgresError
from libs.db.migrate import is_current, migrate
from libs.db.pg_install import PACKAGE, choose_user, find_binaries, locate_package, run_as
from libs.db.roles import service_dsn
from libs.process.child import OsUser
from libs.process.env import ConfigError
from tests.waiting import eventually

pytestmark = pytest.mark.db

_ROOT = Path(__file__).resolve().parents[2]
_IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not _IS_ROOT, reason="only root can become another user")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the server of a test has its data: as root, under a directory closed to its user."""
    tmp_path.chmod(0o700)
    return tmp_path / "pg"


def make_postgres(directory: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(directory, log_path=directory.parent / "postgres.log")


@pytest.fixture
async def postgres(directory: Path) -> AsyncIterator[EmbeddedPostgres]:
    async with make_postgres(directory) as postgres:
        yield postgres


def mode_of(directory: Path) -> int:
    return directory.stat().st_mode & 0o777


def setting(dsn: str, name: str) -> str:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


async def test_server_keeps_what_it_was_told_over_a_stop(directory: Path) -> None:
    async with make_postgres(directory) as first:
        with psycopg.connect(first.owner_dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")

    async with make_postgres(directory) as second:
        with psycopg.connect(second.owner_dsn) as connection:
            row = connection.execute("SELECT number FROM kept").fetchone()

    assert row == (7,)
    assert "database system is shut down" in (directory.parent / "postgres.log").read_text()


async def test_server_is_durable_and_listens_on_no_network(postgres: EmbeddedPostgres) -> None:
    assert setting(postgres.owner_dsn, "fsync") == "on"
    assert setting(postgres.owner_dsn, "full_page_writes") == "on"
    assert setting(postgres.owner_dsn, "data_checksums") == "on"
    assert setting(postgres.owner_dsn, "listen_addresses") == ""
    assert setting(postgres.owner_dsn, "max_connections") == "100"


async def test_server_opens_no_directory_to_others(
    postgres: EmbeddedPostgres, directory: Path
) -> None:
    assert mode_of(directory.parent) == 0o700
    assert mode_of(directory / "run") == 0o700
    assert mode_of(directory / "cluster") == 0o700
    assert postgres.pid > 0


async def test_a_role_needs_its_password(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.owner_dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE pawl_guest LOGIN PASSWORD 'right'")
    guest = postgres.owner_dsn.replace("postgres@", "pawl_guest:{}@")

    with psycopg.connect(guest.format("right")) as connection:
        assert connection.info.user == "pawl_guest"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(guest.format("wrong"))


async def test_killed_server_is_noticed_and_comes_back_with_everything(
    postgres: EmbeddedPostgres,
) -> None:
    with psycopg.connect(postgres.owner_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
        os.kill(postgres.pid, signal.SIGKILL)
    assert await postgres.wait() == -signal.SIGKILL

    await postgres.start()

    with psycopg.connect(postgres.owner_dsn) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row == (1000,)


async def test_stale_pid_file_that_names_a_living_stranger_does_not_hinder_the_start(
    postgres: EmbeddedPostgres, directory: Path
) -> None:
    os.kill(postgres.pid, signal.SIGKILL)
    await postgres.wait()
    pid_file = directory / "cluster" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")

    await postgres.start()

    assert setting(postgres.owner_dsn, "fsync") == "on"


async def test_path_too_long_for_a_socket_still_works(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 90)

    async with make_postgres(directory) as postgres:
        place = socket_dir_of(postgres)
        assert setting(postgres.owner_dsn, "fsync") == "on"
        assert not place.is_relative_to(tmp_path)
        assert mode_of(place) == 0o700
        await postgres.stop()
        await postgres.start()
        assert setting(postgres.owner_dsn, "fsync") == "on"
        place = socket_dir_of(postgres)

    assert not place.exists()


async def test_short_place_of_a_dead_server_is_cleared_by_the_next(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 90)
    dead = make_postgres(directory)
    dead.prepare()

    async with make_postgres(directory) as living:
        assert not socket_dir_of(dead).exists()
        assert socket_dir_of(living).exists()


def socket_dir_of(postgres: EmbeddedPostgres) -> Path:
    return Path(str(psycopg.conninfo.conninfo_to_dict(postgres.owner_dsn)["host"]))


async def test_start_that_fails_says_why(directory: Path) -> None:
    postgres = EmbeddedPostgres(
        directory, log_path=directory.parent / "log", settings={"shared_buffers": "nonsense"}
    )
    postgres.prepare()

    with pytest.raises(EmbeddedPostgresError, match="shared_buffers") as raised:
        await postgres.start()

    assert str(directory.parent / "log") in str(raised.value)


_PARENT = """
import asyncio, sys
from pathlib import Path
from libs.db.embedded import EmbeddedPostgres

async def main():
    place = Path(sys.argv[1])
    async with EmbeddedPostgres(place, log_path=place.parent / "postgres.log") as postgres:
        print(postgres.pid, flush=True)
        if sys.argv[2] == "stay":
            await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def parent(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the server of `directory`."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(directory), "stay"],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


async def test_killed_parent_takes_the_server_with_it(
    parent: subprocess.Popen[str], directory: Path
) -> None:
    assert parent.stdout is not None
    assert int(parent.stdout.readline()) > 0

    parent.kill()

    log = directory.parent / "postgres.log"
    await eventually(lambda: "database system is shut down" in log.read_text(), timeout=10)
    async with make_postgres(directory) as postgres:
        assert setting(postgres.owner_dsn, "fsync") == "on"


async def test_server_left_behind_is_ended_before_the_next_one_starts(
    parent: subprocess.Popen[str], directory: Path
) -> None:
    assert parent.stdout is not None
    left_behind = int(parent.stdout.readline())

    async with make_postgres(directory) as postgres:
        assert postgres.pid != left_behind
        assert setting(postgres.owner_dsn, "fsync") == "on"


def _interpreter_for(user: OsUser) -> str | None:
    """A Python of this version that `user` can execute; the virtual environment may be closed."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        try:
            done = run_as((candidate, "-c", ""), user=user, cwd=Path("/"))
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    return None


@needs_root
def test_ordinary_user_runs_the_server_as_himself() -> None:
    nobody = pwd.getpwnam("nobody")
    python = _interpreter_for(OsUser(uid=nobody.pw_uid, gid=nobody.pw_gid))
    if python is None:
        pytest.skip("no Python of this version that the user nobody can execute")
    place = Path("/tmp") / f"pawl-test-{os.getpid()}"
    place.mkdir(mode=0o700)
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    try:
        done = subprocess.run(
            [python, "-c", textwrap.dedent(_PARENT), str(place / "pg"), "leave"],
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            cwd=_ROOT,
            env={"PYTHONPATH": f"{_ROOT}:{locate_package().parent}", "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        assert (place / "pg" / "cluster").stat().st_uid == nobody.pw_uid
    finally:
        shutil.rmtree(place)


@needs_root
def test_root_drops_to_the_owner_of_the_data_else_to_a_user_without_rights(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    assert choose_user(tmp_path, wanted="nobody") == OsUser(uid=nobody.pw_uid, gid=nobody.pw_gid)
    chosen = choose_user(tmp_path)
    assert chosen is not None
    assert pwd.getpwuid(chosen.uid).pw_name in {"postgres", "nobody"}

    os.chown(tmp_path, nobody.pw_uid, nobody.pw_gid)

    assert choose_user(tmp_path) == OsUser(uid=nobody.pw_uid, gid=nobody.pw_gid)


@needs_root
def test_root_refuses_to_run_it_as_root_or_as_nobody_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not run as root"):
        choose_user(tmp_path, wanted="root")
    with pytest.raises(ConfigError, match="no such user"):
        choose_user(tmp_path, wanted="no-such-user")


def _small_package(place: Path) -> Path:
    """The wheel's layout with only the program that is asked for its version."""
    wheel = locate_package()
    package = place / PACKAGE
    binaries = Path("pginstall18/bin")
    (package / binaries).mkdir(parents=True)
    shutil.copy2(wheel / binaries / "initdb", package / binaries)
    shutil.copytree(wheel.parent / f"{PACKAGE}.libs", place / f"{PACKAGE}.libs")
    return package


@needs_root
def test_programs_under_a_closed_directory_are_copied_once(tmp_path: Path) -> None:
    closed, opened = tmp_path / "closed", Path("/tmp") / f"pawl-test-copy-{os.getpid()}"
    closed.mkdir(mode=0o700)
    package = _small_package(closed)
    nobody = OsUser(uid=65534, gid=65534)
    try:
        first = find_binaries(package, places=(closed / "x", opened), user=nobody)
        made = first.stat().st_ino
        second = find_binaries(package, places=(closed / "x", opened), user=nobody)
    finally:
        shutil.rmtree(opened)

    assert first.is_relative_to(opened)
    assert second == first
    assert made > 0
    assert mode_of(closed) == 0o700


@needs_root
def test_programs_that_cannot_be_reached_anywhere_are_an_error_that_says_what_to_do(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o700)
    package = _small_package(tmp_path / "closed")

    with pytest.raises(ConfigError, match=r"PAWL_PG_USER.*PAWL_DATABASE_URL"):
        find_binaries(package, places=(tmp_path / "x",), user=OsUser(uid=65534, gid=65534))


async def test_lost_passwords_are_made_anew(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    first = migrate(postgres.owner_dsn, secrets_dir=tmp_path / "first")
    same = migrate(postgres.owner_dsn, secrets_dir=tmp_path / "first")
    second = migrate(postgres.owner_dsn, secrets_dir=tmp_path / "second")

    assert len(first.roles) == 5
    assert same.roles == ()
    assert second.roles == first.roles
    with psycopg.connect(service_dsn(postgres.owner_dsn, "auth", tmp_path / "second")) as opened:
        assert opened.info.user == "pawl_auth"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(service_dsn(postgres.owner_dsn, "auth", tmp_path / "first"))
    password = tmp_path / "second" / "db_auth_password"
    assert password.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kept", [b"", b"abc", b"\x9e\xff\n", b"another one than the role's"])
async def test_password_that_does_not_fit_is_made_anew(
    postgres: EmbeddedPostgres, tmp_path: Path, kept: bytes
) -> None:
    migrate(postgres.owner_dsn, secrets_dir=tmp_path)
    (tmp_path / "db_auth_password").write_bytes(kept)

    report = migrate(postgres.owner_dsn, secrets_dir=tmp_path)

    assert report.roles == ("pawl_auth",)
    psycopg.connect(service_dsn(postgres.owner_dsn, "auth", tmp_path)).close()
    assert len((tmp_path / "db_auth_password").read_bytes()) > 40
    assert is_current(postgres.owner_dsn, secrets_dir=tmp_path)


async def test_service_roles_reach_the_server_by_their_own_address(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "db_auth_password").write_text("p@ss/word\n")

    dsn = service_dsn(postgres.owner_dsn, "auth", tmp_path / "secrets")

    known = psycopg.conninfo.conninfo_to_dict(dsn)
    assert known["user"] == "pawl_auth"
    assert known["password"] == "p@ss/word"
    assert known["dbname"] == "pawl"
