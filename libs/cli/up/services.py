"""Which processes make up Pawl, and what each is told."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libs.cli.up.data_dir import DataDir
from libs.cli.up.leftovers import DATA_DIR_VARIABLE
from libs.cli.up.ports import HOST
from libs.db.roles import SERVICES as WITH_DATABASE
from libs.db.roles import service_dsn

MODULES = {
    "auth": "services.auth",
    "planner": "services.planner",
    "scheduler": "services.scheduler",
    "executor": "services.executor",
    "artifact": "services.artifact",
    "gateway": "gateway",
}
"""The module of each service, in the order of the console."""

TARGETS = ("auth", "planner", "scheduler", "artifact")
STOP_ORDER = (("gateway",), ("executor",), ("scheduler",), ("planner", "artifact", "auth"))
"""Who calls stops before whom it calls."""

TLS_DIR = "PAWL_TLS_DIR"
"""Where the certificates of all services lie; set: they speak mTLS to one another."""

PRICES = "PAWL_PRICES"
"""The file of a price table in place of the one that Pawl ships."""

EXECUTOR_SLOTS = 32
# What belongs to the owner of this installation and to no service.
_WITHHELD = ("PAWL_DATABASE_URL", "PAWL_API_KEY", "PAWL_API_KEY_FILE", "PAWL_URL")
_BLOBS = "PAWL_BLOBS"
# What belongs to artifact alone: where blobs are, and the keys of that store.
_ARTIFACTS_OWN = (_BLOBS, "AWS_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One process of a service, with its place in the ready file."""

    service: str
    number: int
    port: int
    metrics_port: int

    @property
    def name(self) -> str:
        """As in `executor-2`."""
        return f"{self.service}-{self.number}"

    @property
    def address(self) -> str:
        """Where it listens: gRPC, the gateway HTTP."""
        return f"{HOST}:{self.port}"

    @property
    def metrics_address(self) -> str:
        """Where it says how it is."""
        return f"{HOST}:{self.metrics_port}"

    def log_path(self, data_dir: DataDir) -> Path:
        """Its log: `executor.log` for the first, `executor-2.log` for the second."""
        return data_dir.logs / f"{self.service if self.number == 1 else self.name}.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What all processes have in common."""

    data_dir: DataDir
    owner_dsn: str = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    modules: Mapping[str, str] = field(default_factory=lambda: MODULES)
    sandbox: str | None = None
    """What executors are told of PAWL_SANDBOX in place of what the owner says."""

    def command(self, service: str, *arguments: str) -> tuple[str, ...]:
        """The command line of a service; what lies in the working directory is not importable."""
        return self.program(self.modules[service], *arguments)

    def program(self, module: str, *arguments: str) -> tuple[str, ...]:
        """The command line of a module, as of a service."""
        return (sys.executable, "-P", "-m", module, *arguments)

    def common_env(self, service: str) -> dict[str, str]:
        """The environment of a service apart from who listens where."""
        inherited = {
            name: value
            for name, value in self.environ.items()
            if name not in _WITHHELD
            and not name.startswith(_ARTIFACTS_OWN)
            and not name.endswith(("_DATABASE_URL", "_DATABASE_URL_FILE"))
        }
        secrets = self.data_dir.secrets
        given = {
            DATA_DIR_VARIABLE: str(self.data_dir.path),
            "PAWL_SERVICE_KEY_FILE": str(secrets / f"service_{service}.jwk"),
            "PAWL_PUBLIC_KEYS_FILE": str(secrets / "public_keys.json"),
            "PAWL_LOG_LEVEL": self.environ.get("PAWL_LOG_LEVEL", "info"),
        }
        if service == "artifact":
            given |= self._blobs()
        prices = self.environ.get(PRICES, "").strip()
        if prices:
            # Processes run in the data directory.
            given[PRICES] = str(Path(prices).expanduser().absolute())
        tls_dir = self.environ.get(TLS_DIR, "").strip()
        if tls_dir:
            given |= tls_files(Path(tls_dir).expanduser().absolute(), service)
        if service in WITH_DATABASE:
            given[f"PAWL_{service.upper()}_DATABASE_URL"] = service_dsn(
                self.owner_dsn, service, secrets
            )
        return inherited | given

    def _blobs(self) -> dict[str, str]:
        """Where large artifacts are kept: as the owner says, else in the data directory."""
        given = {n: text for n, text in self.environ.items() if n.startswith(_ARTIFACTS_OWN)}
        return {_BLOBS: self.data_dir.blobs.as_uri()} | {
            name: text for name, text in given.items() if text.strip()
        }

    def env(self, instance: Instance, others: tuple[Instance, ...]) -> dict[str, str]:
        """The whole environment of one process."""
        env = self.common_env(instance.service)
        env["PAWL_METRICS_LISTEN"] = instance.metrics_address
        if instance.service == "gateway":
            env["PAWL_HTTP_LISTEN"] = instance.address
        else:
            env["PAWL_LISTEN"] = instance.address
        if instance.service == "executor":
            env["PAWL_EXECUTOR_ID"] = instance.name
            env.setdefault("PAWL_EXECUTOR_SLOTS", str(EXECUTOR_SLOTS))
            if self.sandbox is not None:
                env["PAWL_SANDBOX"] = self.sandbox
        for service in TARGETS:
            env[f"PAWL_{service.upper()}_TARGET"] = target_of(
                service, others, first=instance.number - 1
            )
        return env


def tls_files(directory: Path, service: str) -> dict[str, str]:
    """The settings of a service's certificate, as `make certs` lays them out."""
    return {
        "PAWL_TLS_CA_FILE": str(directory / "ca.crt"),
        "PAWL_TLS_CERT_FILE": str(directory / f"{service}.crt"),
        "PAWL_TLS_KEY_FILE": str(directory / f"{service}.key"),
    }


def target_of(service: str, instances: tuple[Instance, ...], *, first: int = 0) -> str:
    """The gRPC target of a service. With several instances: all, in turn from `first` on.

    gRPC takes the first that answers, so that callers are spread and change over when one is gone.
    """
    found = [instance.address for instance in instances if instance.service == service]
    if len(found) == 1:
        return found[0]
    start = first % len(found)
    return "ipv4:" + ",".join(found[start:] + found[:start])


def instance_names(*, executors: int, schedulers: int) -> tuple[tuple[str, int], ...]:
    """(service, number) of every process, in the order of the console."""
    counts = {"executor": executors, "scheduler": schedulers}
    return tuple(
        (service, number) for service in MODULES for number in range(1, counts.get(service, 1) + 1)
    )
