"""The commands `pawl up` and `pawl migrate`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from libs.cli.up.console import UpConsole
from libs.cli.up.data_dir import DataDir, default_data_dir
from libs.cli.up.database import DATABASE_URL, PostgresProcess, Preparation
from libs.cli.up.run import UpOptions, run_up
from libs.cli.up.supervisor import StartFailedError
from libs.process.env import EXIT_BAD_CONFIG, EXIT_FAILED, ConfigError

DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where everything is kept. Default: PAWL_DATA_DIR, else /var/lib/pawl for root and "
        "~/.local/share/pawl for others.",
    ),
]


def up(
    data_dir: DataDirOption = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Of the REST API. Default: as last time, else 8080."),
    ] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Also write the ready file here; it exists while all of Pawl runs."),
    ] = None,
    executors: Annotated[int, typer.Option(min=1, max=64, help="How many executors.")] = 1,
    schedulers: Annotated[int, typer.Option(min=1, max=8, help="How many schedulers.")] = 1,
) -> None:
    """Start all of Pawl on this machine and keep it running until Ctrl-C.

    PostgreSQL comes along; PAWL_DATABASE_URL uses another server (15 or newer) instead.
    """
    options = UpOptions(
        data_dir=_data_dir(data_dir),
        environ=os.environ,
        port=port,
        ready_files=() if ready_file is None else (ready_file.absolute(),),
        executors=executors,
        schedulers=schedulers,
    )
    sys.exit(asyncio.run(run_up(options, UpConsole())))


def migrate(data_dir: DataDirOption = None) -> None:
    """Bring the database up to date without starting Pawl.

    The database is the one that PAWL_DATABASE_URL names, else the one of the data directory.
    """
    sys.exit(asyncio.run(_migrate(DataDir(path=_data_dir(data_dir)), Console())))


def _data_dir(given: Path | None) -> Path:
    return default_data_dir(os.environ) if given is None else given.expanduser().absolute()


async def _migrate(data_dir: DataDir, console: Console) -> int:
    try:
        data_dir.create()
        with data_dir.locked():
            changed = await _prepare(data_dir)
    except ConfigError as error:
        console.print(f"pawl migrate: {error}", markup=False, soft_wrap=True, style="red")
        return EXIT_BAD_CONFIG
    except StartFailedError as error:
        console.print(f"pawl migrate: {error}", markup=False, soft_wrap=True, style="red")
        return EXIT_FAILED
    console.print("The database is up to date." if changed else "There was nothing to do.")
    return 0


async def _prepare(data_dir: DataDir) -> bool:
    given = os.environ.get(DATABASE_URL, "").strip()
    if given:
        return await Preparation(data_dir=data_dir, owner_dsn=given, environ=os.environ).run()
    postgres = PostgresProcess(data_dir, user=os.environ.get("PAWL_PG_USER", "").strip() or None)
    postgres.prepare()
    try:
        await postgres.start()
        preparation = Preparation(
            data_dir=data_dir, owner_dsn=postgres.owner_dsn, environ=os.environ
        )
        return await preparation.run()
    finally:
        await postgres.stop()
