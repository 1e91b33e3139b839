"""What an installation in containers consists of: its secrets, who is given which, its settings.

The `installation` directory keeps everything, as the data directory of `pawl up` does; only the two
one-shot processes see it. Whatever a service needs is handed out to it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from libs.cli.deploy.hand_out import Holder
from libs.cli.up.data_dir import DataDir
from libs.cli.up.services import MODULES
from libs.db.roles import SERVICES as WITH_DATABASE
from libs.db.roles import service_dsn, to_url
from libs.process.env import Env
from libs.process.files import write_atomically

PASSWORD_BYTES = 32
DATABASE = "pawl"
OWNER = "postgres"
HANDED_OUT = {
    "postgres_password": "postgres/password",
    "s3_access_key": "s3/s3_access_key",
    "s3_secret_key": "s3/s3_secret_key",
}
"""Every random secret, and where the server that it is for is given it."""

SANDBOX = "sandbox"
"""Runs code for executors; in containers a process of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploySettings:
    """Where the installation is kept, where secrets are handed out, and to which users."""

    installation: DataDir
    place: Path
    database_host: str
    service_uid: int
    postgres_uid: int
    s3_uid: int

    @classmethod
    def from_env(cls, values: Mapping[str, str]) -> DeploySettings:
        """Read every setting; ConfigError names all that are malformed."""
        env = Env(values)
        settings = cls(
            installation=DataDir(path=env.path("PAWL_INSTALLATION_DIR", "/installation")),
            place=env.path("PAWL_HAND_OUT_DIR", "/secrets"),
            database_host=env.text("PAWL_DATABASE_HOST", "postgres"),
            service_uid=env.integer("PAWL_SERVICE_UID", 65532, minimum=0),
            postgres_uid=env.integer("PAWL_POSTGRES_UID", 999, minimum=0),
            s3_uid=env.integer("PAWL_S3_UID", 0, minimum=0),
        )
        env.check()
        return settings

    @property
    def tls(self) -> Path:
        """The authority and the certificates of all services."""
        return self.installation.secrets / "tls"

    def owner_dsn(self) -> str:
        """The address of the database for its owner."""
        password = self.kept("postgres_password")
        named = {"host": self.database_host, "user": OWNER, "dbname": DATABASE}
        return to_url(named | {"password": password})

    def kept(self, name: str) -> str:
        """A random secret of this name: the one that is kept, that its server has, or a new one.

        A server knows the secret of its first start and no other, so where ours is lost that which
        was handed out to it counts.
        """
        path = self.installation.secrets / name
        kept = _read(path)
        if kept:
            return kept
        made = _read(self.place / HANDED_OUT[name]) or secrets.token_urlsafe(PASSWORD_BYTES)
        write_atomically(path, made + "\n")
        return made


def holders_at_first(settings: DeploySettings) -> list[Holder]:
    """Who is given what before the database is there."""
    return [
        Holder(
            name="postgres",
            uid=settings.postgres_uid,
            files={"password": _line(settings.kept("postgres_password"))},
        ),
        Holder(name="s3", uid=settings.s3_uid, files=_s3_keys(settings)),
        Holder(name="client", uid=settings.service_uid, files=_certificate(settings.tls, "client")),
        *(_service(settings, name) for name in (*MODULES, SANDBOX)),
    ]


def holders_with_database(
    settings: DeploySettings, *, owner_dsn: str, api_key: str
) -> list[Holder]:
    """Who is given what once the roles are there, and the operator's key."""
    kept = settings.installation.secrets
    services = [
        Holder(
            name=name,
            uid=settings.service_uid,
            files={"database_url": _line(service_dsn(owner_dsn, name, kept))},
        )
        for name in WITH_DATABASE
    ]
    operator = Holder(name="operator", uid=settings.service_uid, files={"api_key": _line(api_key)})
    return [*services, operator]


def _service(settings: DeploySettings, name: str) -> Holder:
    kept = settings.installation.secrets
    files = _certificate(settings.tls, name)
    files["public_keys.json"] = (kept / "public_keys.json").read_bytes()
    files["service.jwk"] = (kept / f"service_{name}.jwk").read_bytes()
    if name == "artifact":
        files |= _s3_keys(settings)
    return Holder(name=name, uid=settings.service_uid, files=files)


def _s3_keys(settings: DeploySettings) -> dict[str, bytes]:
    names = ("s3_access_key", "s3_secret_key")
    return {name: _line(settings.kept(name)) for name in names}


def _certificate(tls: Path, name: str) -> dict[str, bytes]:
    named = {"ca.crt": "ca.crt", "tls.crt": f"{name}.crt", "tls.key": f"{name}.key"}
    return {given: (tls / file).read_bytes() for given, file in named.items()}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _line(text: str) -> bytes:
    return f"{text}\n".encode()
