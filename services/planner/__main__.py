"""Runs the planner: `python -m services.planner`."""

from __future__ import annotations

import asyncio
import os

from libs.core.clock import SystemClock
from libs.db.engine import open_pool, refuse_privileged
from libs.process.logs import configure_logs
from libs.process.metrics import serve_metrics, set_ready
from libs.process.run import run
from libs.rpc.tokens import TokenVerifier, load_public_keys
from services.planner.catalog import Catalog
from services.planner.config import Settings
from services.planner.sandbox_watch import watch_sandboxes
from services.planner.server import make_server
from services.planner.service import Planner
from services.planner.store import PlannerStore


async def serve(stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain."""
    settings = Settings.from_env(os.environ)
    configure_logs("planner", level=settings.log_level)
    serve_metrics(settings.metrics_listen)
    verifier = TokenVerifier(load_public_keys(settings.public_keys_file), audience="planner")
    clock = SystemClock()
    pool = await open_pool(settings.database_url, name="pawl-planner", max_size=4)
    try:
        await refuse_privileged(pool, "planner")
        catalog = Catalog(PlannerStore(pool), clock=clock)
        server = make_server(
            Planner(catalog, clock=clock),
            catalog,
            address=settings.listen,
            verifier=verifier,
            tls=settings.tls,
        )
        await server.start()
        set_ready(True)

        async def tell(component: str, serving: bool) -> None:
            await server.set_component(component, serving=serving)

        try:
            await watch_sandboxes(catalog, tell, stop, clock=clock)
        finally:
            set_ready(False)
            await server.stop()
    finally:
        await pool.close()


def main() -> None:
    """Serve and leave the process: 0 stopped, 1 failed, 2 bad settings."""
    run(serve, service="planner")


if __name__ == "__main__":
    main()
