"""What only a first start or a new release needs: `python -m libs.cli.up.setup SECRETS_DIR`.

Migrates the database that PAWL_DATABASE_URL names and makes the keys of the services.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psycopg

from libs.cli.up.service_keys import keys_are_whole
from libs.db.migrate import MigrationReport, migrate
from libs.process.env import ConfigError, Env
from libs.rpc.tokens import SERVICES, KeyRing


def set_up(owner_dsn: str, *, secrets_dir: Path) -> MigrationReport:
    """Make the keys, when they are not whole, and migrate."""
    if not keys_are_whole(secrets_dir, services=SERVICES):
        KeyRing.generate().write(secrets_dir)
    return migrate(owner_dsn, secrets_dir=secrets_dir)


def main() -> None:
    """Exit code 0, or 1 with a sentence on stderr."""
    env = Env(os.environ)
    owner_dsn = env.text("PAWL_DATABASE_URL")
    try:
        env.check()
        set_up(owner_dsn, secrets_dir=Path(sys.argv[1]))
    except (ConfigError, psycopg.OperationalError) as error:
        sys.exit(str(error).strip())


if __name__ == "__main__":
    main()
