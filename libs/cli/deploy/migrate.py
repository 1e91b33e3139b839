"""Before the services start: `python -m libs.cli.deploy.migrate`.

Migrates the database, makes the topics and the bucket, makes the operator's key, and hands out the
addresses of the database. Each part finds what an earlier run has done.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping

import psycopg

from libs.bus.settings import KAFKA, bus_from_env
from libs.cli.deploy.hand_out import hand_out
from libs.cli.deploy.installation import DeploySettings, holders_with_database
from libs.cli.topics import ensure_topics
from libs.cli.up.api_key import ensure_api_key
from libs.cli.up.services import Installation
from libs.cli.up.setup import set_up
from libs.core.errors import PawlError
from libs.process.env import EXIT_BAD_CONFIG, EXIT_FAILED, ConfigError, Env


def migrate(settings: DeploySettings, environ: Mapping[str, str]) -> None:
    """Do all of it. ConfigError, PawlError or psycopg.Error says what went wrong."""
    owner_dsn = _owner_dsn(settings, environ)
    with settings.installation.locked():
        report = set_up(owner_dsn, secrets_dir=settings.installation.secrets)
        for schema, (before, now) in report.applied.items():
            print(f"{schema}: {before or 'new'} → {now}", flush=True)
        asyncio.run(_make_topics(environ))
        _make_bucket(environ)
        installation = Installation(
            data_dir=settings.installation, owner_dsn=owner_dsn, environ=environ
        )
        api_key = asyncio.run(ensure_api_key(installation))
        for holder in holders_with_database(settings, owner_dsn=owner_dsn, api_key=api_key):
            for name in hand_out(settings.place, holder):
                print(f"{holder.name}: {name}", flush=True)


def _owner_dsn(settings: DeploySettings, environ: Mapping[str, str]) -> str:
    """The address of the database for its owner: as given, else of the server beside us."""
    env = Env(environ)
    names = ("PAWL_DATABASE_URL", "PAWL_DATABASE_URL_FILE")
    if all(env.optional_text(name) is None for name in names):
        return settings.owner_dsn()
    given = env.secret("PAWL_DATABASE_URL")
    env.check()
    return given


async def _make_topics(environ: Mapping[str, str]) -> None:
    bus = bus_from_env(environ)
    if bus.driver == KAFKA:
        for name, outcome, detail in await ensure_topics(bus):
            print(f"topic {name} {outcome}: {detail}", flush=True)


def _make_bucket(environ: Mapping[str, str]) -> None:
    command = [sys.executable, "-P", "-m", "services.artifact.make_bucket"]
    done = subprocess.run(command, env=dict(environ), check=False)  # noqa: S603
    if done.returncode != 0:
        raise ConfigError("the store of PAWL_BLOBS cannot be used (see above)")


def main() -> int:
    """Exit code 0, 1 when something is away, 2 for settings that do not work."""
    try:
        migrate(DeploySettings.from_env(os.environ), os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_CONFIG
    except (PawlError, psycopg.OperationalError) as error:
        print(str(error).strip(), file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
