"""What `python -m libs.cli.deploy.migrate` does to a database, and what a second run leaves."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from libs.cli.deploy.first import prepare
from libs.cli.deploy.installation import DeploySettings
from libs.cli.deploy.migrate import migrate
from libs.db.roles import SERVICES as WITH_DATABASE
from tests.servers import Database

pytestmark = [
    pytest.mark.db,
    pytest.mark.skipif(os.getuid() != 0, reason="it runs as root, to give files to others"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """An installation whose first start is over, and the environment of the second process."""

    settings: DeploySettings
    environ: dict[str, str]

    async def migrate(self) -> None:
        await asyncio.to_thread(migrate, self.settings, self.environ)

    def given(self, name: str) -> str:
        return (self.settings.place / name).read_text(encoding="ascii").strip()


@pytest.fixture
def world(tmp_path: Path, database: Database) -> World:
    environ = {
        "PATH": os.environ["PATH"],
        "PAWL_INSTALLATION_DIR": str(tmp_path / "installation"),
        "PAWL_HAND_OUT_DIR": str(tmp_path / "given"),
        "PAWL_DATABASE_URL": database.owner_dsn,
        "PAWL_BLOBS": (tmp_path / "blobs").as_uri(),
    }
    settings = DeploySettings.from_env(environ)
    prepare(settings)
    # Roles belong to the whole server, which other tests use too: their passwords stay.
    for password in database.secrets_dir.glob("db_*_password"):
        shutil.copy(password, settings.installation.secrets)
    return World(settings=settings, environ=environ)


async def test_each_service_is_given_the_address_that_lets_it_in(world: World) -> None:
    await world.migrate()

    for service in WITH_DATABASE:
        url = world.given(f"{service}/database_url")
        async with await psycopg.AsyncConnection.connect(url) as connection:
            row = await (await connection.execute("SELECT current_user")).fetchone()
        assert row == (f"pawl_{service}",)


async def test_a_second_run_changes_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.migrate()
    names = ("operator/api_key", *(f"{service}/database_url" for service in WITH_DATABASE))
    before = {name: world.given(name) for name in names}
    capsys.readouterr()

    await world.migrate()

    assert {name: world.given(name) for name in names} == before
    assert capsys.readouterr().out == ""


async def test_a_revoked_key_is_made_anew(world: World, database: Database) -> None:
    await world.migrate()
    revoked = world.given("operator/api_key")
    async with await psycopg.AsyncConnection.connect(database.owner_dsn) as connection:
        await connection.execute("UPDATE auth.api_keys SET revoked_at = now()")

    await world.migrate()

    assert world.given("operator/api_key") != revoked


async def test_the_owners_address_can_come_in_a_file(world: World, tmp_path: Path) -> None:
    file = tmp_path / "owner_url"
    file.write_text(world.environ.pop("PAWL_DATABASE_URL") + "\n", encoding="ascii")
    world.environ["PAWL_DATABASE_URL_FILE"] = str(file)

    await world.migrate()

    assert world.given("operator/api_key").startswith("pawl_live_")
