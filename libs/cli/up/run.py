"""One run of `pawl up`, from the lock on the data directory to the end of the last process."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as release_of
from pathlib import Path
from typing import Any

from libs.bus.settings import KAFKA, bus_from_env
from libs.cli.topics import ensure_topics
from libs.cli.up import ready_file
from libs.cli.up.api_key import ensure_api_key
from libs.cli.up.console import UpConsole, readable
from libs.cli.up.data_dir import DataDir
from libs.cli.up.database import DATABASE_URL, PostgresProcess, Preparation
from libs.cli.up.leftovers import end_leftovers
from libs.cli.up.ports import choose_http_port, choose_ports
from libs.cli.up.processes import mark_of
from libs.cli.up.sandbox import choose_sandbox
from libs.cli.up.services import MODULES, STOP_ORDER, Installation, Instance, instance_names
from libs.cli.up.state import StateFile
from libs.cli.up.supervisor import ServiceProcess, StartFailedError, Supervised, Supervisor, Trouble
from libs.core.errors import PawlError
from libs.db.roles import INSPECTOR, service_dsn
from libs.process.child import ChildSpec
from libs.process.env import EXIT_BAD_CONFIG, EXIT_FAILED, EXIT_STOPPED, ConfigError
from libs.process.files import check_writable

START_SECONDS = 120.0
STOP_SECONDS = {"executor": 10.0}
STOP_SECONDS_OF_OTHERS = 5.0
_HTTP = "gateway-1.listen"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What `pawl up` was asked for. `port` None: as last time, else 8080, else any; 0: not 8080."""

    data_dir: Path
    environ: Mapping[str, str] = field(repr=False)
    port: int | None = None
    ready_files: tuple[Path, ...] = ()
    executors: int = 1
    schedulers: int = 1
    modules: Mapping[str, str] = field(default_factory=lambda: MODULES)


class UpFailedError(Exception):
    """It could not be started; the message says what failed and where to look."""


async def run_up(options: UpOptions, console: UpConsole) -> int:
    """Start everything, serve until a signal comes, stop everything; return the exit code.

    0 after a clean stop, 1 when something could not be started, 2 for settings that do not work.
    """
    data_dir = DataDir(path=options.data_dir)
    try:
        data_dir.create()
        with data_dir.locked():
            return await _Up(options, data_dir, console).run()
    except ConfigError as error:
        console.failed(str(error))
        return EXIT_BAD_CONFIG
    except (UpFailedError, StartFailedError) as error:
        console.failed(str(error))
        return EXIT_FAILED


class _Up:
    def __init__(self, options: UpOptions, data_dir: DataDir, console: UpConsole) -> None:
        self._options = options
        self._data_dir = data_dir
        self._console = console
        self._state = StateFile(data_dir.state_file)
        self._supervisor = Supervisor(on_ready=self._on_ready, on_trouble=self._on_trouble)
        self._postgres: PostgresProcess | None = None
        self._instances: tuple[Instance, ...] = ()
        self._serving: dict[str, int] = {}
        self._ready: ready_file.ReadyFile | None = None
        self._hopeless: asyncio.Future[Trouble] = asyncio.get_running_loop().create_future()
        self._signals = 0
        self._stop = asyncio.Event()

    async def run(self) -> int:
        self._watch_signals()
        self._clear_ready_files()
        self._console.opening(version=self._version(), data_dir=str(self._data_dir.path))
        body = asyncio.create_task(self._start_and_serve())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({body, stop}, return_when=asyncio.FIRST_COMPLETED)
            if body.done():
                body.result()
        finally:
            stop.cancel()
            body.cancel()
            await asyncio.wait({body, stop})
            await self._stop_everything()
        return EXIT_STOPPED

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals > 1:
            self._supervisor.kill()
        self._stop.set()

    async def _start_and_serve(self) -> None:
        began = time.monotonic()
        for name in await end_leftovers(self._state.state.processes, data_dir=self._data_dir.path):
            self._console.note(f"ended {name}, which an earlier run had left behind")
        self._instances = self._plan_instances()
        owner_dsn = await self._start_database()
        preparation = Preparation(
            data_dir=self._data_dir, owner_dsn=owner_dsn, environ=self._options.environ
        )
        if await preparation.run():
            self._console.note("database prepared")
        await self._prepare_topics()
        installation = Installation(
            data_dir=self._data_dir,
            owner_dsn=owner_dsn,
            environ=self._options.environ,
            modules=self._options.modules,
        )
        services = self._keep(installation, executors=False)
        key = asyncio.create_task(ensure_api_key(installation))
        choice = asyncio.create_task(self._start_executors(installation))
        try:
            await self._until_all_serve(services)
            sandbox, executors = await choice
            await self._until_all_serve(executors)
            self._ready = self._describe(
                inspector_dsn=service_dsn(owner_dsn, INSPECTOR, self._data_dir.secrets),
                api_key=await key,
            )
        finally:
            key.cancel()
            choice.cancel()
            await asyncio.wait({choice})
        self._write_ready_files()
        self._console.ready_to_use(self._ready, sandbox=sandbox, seconds=time.monotonic() - began)
        await self._supervisor.failed()

    async def _start_executors(
        self, installation: Installation
    ) -> tuple[str | None, list[asyncio.Event]]:
        """Choose their sandbox, which may take a while, and start them."""
        sandbox = await choose_sandbox(installation, self._console.note)
        return sandbox, self._keep(replace(installation, sandbox=sandbox), executors=True)

    def _keep(self, installation: Installation, *, executors: bool) -> list[asyncio.Event]:
        return [
            self._supervisor.keep(self._process(installation, instance))
            for instance in self._instances
            if (instance.service == "executor") is executors
        ]

    def _plan_instances(self) -> tuple[Instance, ...]:
        before = self._state.state.ports
        http = choose_http_port(self._options.port, before=before.get(_HTTP))
        names = instance_names(
            executors=self._options.executors, schedulers=self._options.schedulers
        )
        wanted = [f"{s}-{n}.{kind}" for s, n in names for kind in ("listen", "metrics")]
        wanted.remove(_HTTP)
        ports = choose_ports(wanted, before={**before, _HTTP: http}) | {_HTTP: http}
        self._state.set_ports(ports)
        return tuple(
            Instance(
                service=service,
                number=number,
                port=ports[f"{service}-{number}.listen"],
                metrics_port=ports[f"{service}-{number}.metrics"],
            )
            for service, number in names
        )

    async def _start_database(self) -> str:
        given = self._options.environ.get(DATABASE_URL, "").strip()
        if given:
            return given
        user = self._options.environ.get("PAWL_PG_USER", "").strip() or None
        self._postgres = PostgresProcess(self._data_dir, user=user)
        self._postgres.prepare()
        await self._until_all_serve([self._supervisor.keep(self._postgres)])
        return self._postgres.owner_dsn

    async def _prepare_topics(self) -> None:
        """On Kafka: make the topics. ConfigError when there are others by their names."""
        settings = bus_from_env(self._options.environ)
        if settings.driver != KAFKA:
            return
        try:
            topics = await ensure_topics(settings)
        except PawlError as error:
            if error.code == "unavailable":
                # As later on: tasks run, and their events wait.
                self._console.note(f"the topics could not be looked at: {error.message}")
                return
            raise ConfigError(
                f"the topics at {settings.kafka_bootstrap} cannot be used: {error.message}"
            ) from error
        for name, outcome, detail in topics:
            if outcome != "kept":
                self._console.note(f"topic {name} {outcome}: {detail}")

    def _process(self, installation: Installation, instance: Instance) -> ServiceProcess:
        log_path = instance.log_path(self._data_dir)
        return ServiceProcess(
            ChildSpec(
                name=instance.name,
                argv=installation.command(instance.service),
                env=installation.env(instance, self._instances),
                log_path=log_path,
                cwd=self._data_dir.path,
            ),
            health_address=instance.metrics_address,
            log_path=log_path,
            stop_seconds=STOP_SECONDS.get(instance.service, STOP_SECONDS_OF_OTHERS),
            on_started=self._on_started,
        )

    async def _until_all_serve(self, events: list[asyncio.Event]) -> None:
        everything = asyncio.create_task(_all_set(events))
        failed = asyncio.create_task(self._supervisor.failed())
        try:
            waited: set[asyncio.Future[Any]] = {everything, failed, self._hopeless}
            done, _ = await asyncio.wait(
                waited, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if failed in done:
                failed.result()
            if self._hopeless in done:
                trouble = self._hopeless.result()
                raise UpFailedError(
                    f"{trouble.name} cannot run like this ({trouble.what}): "
                    f"{readable(trouble.last_line)} (log: {trouble.log_path})"
                )
            if not done:
                missing = [i.name for i in self._instances if i.name not in self._serving]
                raise UpFailedError(
                    f"not ready after {START_SECONDS:.0f} s: {', '.join(missing) or 'postgres'} "
                    f"(logs: {self._data_dir.logs})"
                )
        finally:
            everything.cancel()
            failed.cancel()

    def _on_started(self, name: str, pid: int) -> None:
        mark = mark_of(pid)
        if mark is None:
            return
        try:
            self._state.set_process(name, mark)
        except OSError as error:
            # Only a start after a crash would miss it.
            self._console.note(f"cannot write {self._data_dir.state_file}: {error.strerror}")

    def _on_ready(self, process: Supervised, seconds: float) -> None:
        again = process.name in self._serving
        self._serving[process.name] = process.pid
        self._console.ready(process.name, seconds=seconds, again=again)
        if self._ready is not None:
            self._ready = self._describe(
                inspector_dsn=self._ready.postgres.dsn, api_key=self._ready.api_key
            )
            self._write_ready_files()

    def _on_trouble(self, trouble: Trouble) -> None:
        self._console.trouble(trouble)
        if trouble.hopeless and trouble.name not in self._serving and not self._hopeless.done():
            self._hopeless.set_result(trouble)

    def _describe(self, *, inspector_dsn: str, api_key: str) -> ready_file.ReadyFile:
        services: dict[str, tuple[ready_file.Instance, ...]] = {}
        for instance in self._instances:
            entry = ready_file.Instance(
                instance=instance.name,
                address=instance.address,
                metrics_address=instance.metrics_address,
                pid=self._serving[instance.name],
            )
            services[instance.service] = (*services.get(instance.service, ()), entry)
        pid = None if self._postgres is None else self._serving[self._postgres.name]
        return ready_file.ReadyFile(
            url=f"http://{services['gateway'][0].address}",
            api_key=api_key,
            pid=os.getpid(),
            data_dir=str(self._data_dir.path),
            version=self._version(),
            postgres=ready_file.PostgresEntry(pid=pid, dsn=inspector_dsn),
            services=services,
        )

    def _version(self) -> str:
        label = self._options.environ.get("PAWL_VERSION_LABEL", "").strip()
        try:
            return label or f"pawl-{release_of('pawl')}"
        except PackageNotFoundError:
            return "pawl"

    def _ready_paths(self) -> tuple[Path, ...]:
        """In this order: whoever waits for one that was asked for then finds the usual one too."""
        return tuple(dict.fromkeys((self._data_dir.ready_file, *self._options.ready_files)))

    def _write_ready_files(self) -> None:
        if self._ready is not None:
            for path in self._ready_paths():
                try:
                    ready_file.write(path, self._ready)
                except OSError as error:
                    self._console.note(f"cannot write {path}: {error.strerror}")

    def _clear_ready_files(self) -> None:
        """Remove those of an earlier run; ConfigError where none can be written later."""
        for path in self._ready_paths():
            try:
                path.unlink(missing_ok=True)
                check_writable(path)
            except OSError as error:
                raise ConfigError(
                    f"cannot write the ready file {path}: {error.strerror}"
                ) from error

    def _remove_ready_files(self) -> None:
        for path in self._ready_paths():
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self._console.note(f"cannot remove {path}: {error.strerror}")

    async def _stop_everything(self) -> None:
        self._console.stopping()
        began = time.monotonic()
        self._ready = None
        self._remove_ready_files()
        for group in STOP_ORDER:
            names = [i.name for i in self._instances if i.service in group]
            await asyncio.gather(*(self._supervisor.stop(name) for name in names))
        await self._supervisor.stop(PostgresProcess.name)
        self._state.forget_processes()
        self._console.stopped(seconds=time.monotonic() - began)


async def _all_set(events: list[asyncio.Event]) -> None:
    for event in events:
        await event.wait()
