"""Runs auth: `python -m services.auth` serves; `bootstrap` and `check-key` do one thing."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from libs.bus.driver import open_bus
from libs.core.clock import SystemClock
from libs.core.errors import PawlError
from libs.core.tiers import TIERS
from libs.db.engine import Pool, open_pool, refuse_privileged
from libs.db.outage import AWAY
from libs.process.env import ConfigError
from libs.process.logs import configure_logs
from libs.process.metrics import serve_metrics, set_ready
from libs.process.run import EXIT_BAD_CONFIG, EXIT_STOPPED, run
from libs.rpc.tokens import CallerTokens, TokenVerifier, load_private_key, load_public_keys
from services.auth import keys
from services.auth.audit import Audit
from services.auth.bootstrap import is_operator_key, make_operator_key
from services.auth.config import CommandSettings, Settings
from services.auth.consumer import make_consumer
from services.auth.granting import Granting
from services.auth.metering import Metering
from services.auth.model import TenantWanted
from services.auth.rotation import Rotations
from services.auth.server import UseCases, make_server
from services.auth.service import Keys
from services.auth.store import AuthStore
from services.auth.tenants import Tenants
from services.auth.users import Users

EXIT_KEY_REFUSED = 1
EXIT_UNAVAILABLE = 3
STDIN_MAX_BYTES = 1024

Command = Callable[[AuthStore], Awaitable[int]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says and leave the process with an exit code.

    Serving: 0 stopped, 1 failed, 2 bad settings. check-key: 0 a good operator key, 1 not. Both
    commands: 2 bad settings or arguments, 3 the database cannot be reached.
    """
    given = _parser().parse_args(arguments)
    if given.command is None:
        run(serve, service="auth")
        return
    if given.command == "bootstrap":
        wanted = TenantWanted(name=given.tenant, tier=given.tier, email=given.email)
        command = _bootstrap(wanted)
    else:
        command = _check_key(
            sys.stdin.buffer.read(STDIN_MAX_BYTES).decode("ascii", "replace").strip()
        )
    configure_logs("auth")
    sys.exit(asyncio.run(_run_command(command)))


async def serve(stop: asyncio.Event) -> None:
    """Serve and meter until `stop` is set, then drain."""
    settings = Settings.from_env(os.environ)
    configure_logs("auth", level=settings.log_level)
    serve_metrics(settings.metrics_listen)
    verifier = TokenVerifier(load_public_keys(settings.public_keys_file), audience="auth")
    tokens = CallerTokens(load_private_key(settings.service_key_file))
    async with _database(settings.database_url, hot=True) as pool:
        server = make_server(
            wire(AuthStore(pool), tokens=tokens),
            address=settings.listen,
            verifier=verifier,
            tls=settings.tls,
        )
        bus_of = open_bus(
            settings.bus, pool=pool, database_url=settings.database_url, name="pawl-auth"
        )
        async with bus_of as bus:
            consumer = make_consumer(bus, pool=pool)
            await server.start()
            set_ready(True)
            try:
                # A loop that fails ends the group and with it the process: nothing runs half.
                async with asyncio.TaskGroup() as loops:
                    loops.create_task(bus.run(stop))
                    loops.create_task(consumer.run(stop))
            finally:
                set_ready(False)
                await server.stop()


def wire(auth_store: AuthStore, *, tokens: CallerTokens) -> UseCases:
    """The use cases over a store, with the machine's clock and randomness."""
    clock = SystemClock()
    tenants = Tenants(auth_store, clock=clock)
    granting = Granting(auth_store)
    return UseCases(
        keys=Keys(
            auth_store,
            tenants=tenants,
            granting=granting,
            tokens=tokens,
            clock=clock,
            random_chars=random_chars,
        ),
        rotations=Rotations(auth_store, clock=clock, random_chars=random_chars),
        tenants=tenants,
        users=Users(auth_store, tenants=tenants, clock=clock),
        audit=Audit(auth_store, tenants=tenants),
        granting=granting,
        metering=Metering(auth_store, clock=clock),
    )


def random_chars(count: int) -> str:
    """So many characters of the keys' alphabet from the system's randomness, all equally likely."""
    return "".join(secrets.choice(keys.ALPHABET) for _ in range(count))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.auth", description=__doc__)
    commands = parser.add_subparsers(dest="command", title="commands")
    bootstrap = commands.add_parser("bootstrap", help="make a tenant, if new, and an operator key")
    bootstrap.add_argument("--tenant", required=True, help="the tenant's name")
    bootstrap.add_argument("--tier", required=True, choices=tuple(TIERS), help="of a new tenant")
    bootstrap.add_argument("--email", default="", help="the owner's address; else name@localhost")
    commands.add_parser("check-key", help="whether stdin is a good operator key: exit 0 or 1")
    return parser


def _bootstrap(wanted: TenantWanted) -> Command:
    async def command(auth_store: AuthStore) -> int:
        made = await make_operator_key(
            auth_store, wanted, clock=SystemClock(), random_chars=random_chars
        )
        answer = {
            "api_key": made.secret,
            "key_id": str(made.key.id),
            "tenant_id": str(made.key.tenant_id),
        }
        print(json.dumps(answer))  # noqa: T201 - what this command is for
        return EXIT_STOPPED

    return command


def _check_key(text: str) -> Command:
    async def command(auth_store: AuthStore) -> int:
        good = await is_operator_key(auth_store, text, clock=SystemClock())
        return EXIT_STOPPED if good else EXIT_KEY_REFUSED

    return command


async def _run_command(command: Command) -> int:
    try:
        settings = CommandSettings.from_env(os.environ)
        configure_logs("auth", level=settings.log_level)
        async with _database(settings.database_url, hot=False) as pool:
            return await command(AuthStore(pool))
    except (ConfigError, PawlError) as error:
        return _failed(error, EXIT_BAD_CONFIG)
    except AWAY as error:
        return _failed(error, EXIT_UNAVAILABLE)


def _failed(error: Exception, code: int) -> int:
    print(f"auth: {str(error).strip()}", file=sys.stderr)  # noqa: T201 - read by whoever called
    return code


@asynccontextmanager
async def _database(url: str, *, hot: bool) -> AsyncIterator[Pool]:
    pool = await open_pool(url, name="pawl-auth", hot=hot)
    try:
        await refuse_privileged(pool, "auth")
        yield pool
    finally:
        await pool.close()


if __name__ == "__main__":
    main()
