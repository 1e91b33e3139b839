"""Runs artifact: `python -m services.artifact`."""

from __future__ import annotations

import asyncio
import os

from libs.bus.driver import open_bus
from libs.core.ids import new_id
from libs.db.engine import open_pool, refuse_privileged
from libs.process.logs import configure_logs
from libs.process.metrics import serve_metrics, set_ready
from libs.process.run import run
from libs.rpc.tokens import TokenVerifier, load_public_keys
from services.artifact.blobs import open_blobs
from services.artifact.config import Settings
from services.artifact.consumer import make_consumer
from services.artifact.server import make_server
from services.artifact.service import Artifacts
from services.artifact.store import ArtifactStore


async def serve(stop: asyncio.Event) -> None:
    """Serve and settle until `stop` is set, then drain."""
    settings = Settings.from_env(os.environ)
    configure_logs("artifact", level=settings.log_level)
    serve_metrics(settings.metrics_listen)
    verifier = TokenVerifier(load_public_keys(settings.public_keys_file), audience="artifact")
    blobs = open_blobs(settings.blobs)
    await blobs.check()
    pool = await open_pool(settings.database_url, name="pawl-artifact", hot=True)
    try:
        await refuse_privileged(pool, "artifact")
        artifacts = Artifacts(ArtifactStore(pool), blobs=blobs, new_id=new_id)
        server = make_server(
            artifacts, address=settings.listen, verifier=verifier, tls=settings.tls
        )
        bus_of = open_bus(
            settings.bus, pool=pool, database_url=settings.database_url, name="pawl-artifact"
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
    finally:
        await pool.close()


if __name__ == "__main__":
    run(serve, service="artifact")
