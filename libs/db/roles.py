"""The database roles of the services: one each, with a generated password, owning nothing."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from libs.process.env import ConfigError

SERVICES = ("auth", "planner", "scheduler", "artifact")
"""The services that have a schema and a role `pawl_<service>`."""

INSPECTOR = "inspector"
"""The role `pawl_inspector` may read everything and write nothing."""


def service_dsn(owner_dsn: str, service: str, secrets_dir: Path) -> str:
    """The URL of the same database for the role `pawl_<service>` (or `inspector`)."""
    path = _password_file(secrets_dir, service)
    password = _kept_password(path)
    if password is None:
        raise ConfigError(f"there is no password in {path}: run `pawl migrate`")
    return with_user(owner_dsn, user=f"pawl_{service}", password=password)


def with_user(dsn: str, *, user: str, password: str | None = None) -> str:
    """The URL of the same database for another role."""
    given = {k: str(v) for k, v in conninfo_to_dict(dsn).items() if v is not None}
    given.pop("password", None)
    given["user"] = user
    return to_url(given | ({"password": password} if password else {}))


def with_database(dsn: str, database: str) -> str:
    """The URL of another database of the same server for the same role."""
    given = {k: str(v) for k, v in conninfo_to_dict(dsn).items() if v is not None}
    return to_url(given | {"dbname": database})


def to_url(parameters: dict[str, str]) -> str:
    """A postgresql:// URL with these libpq parameters."""
    rest = dict(parameters)
    user = quote(rest.pop("user", ""), safe="")
    password = rest.pop("password", None)
    database = quote(rest.pop("dbname", ""), safe="")
    host, port = rest.get("host", ""), rest.get("port", "")
    authority = ""
    # A socket directory and a list of hosts are spelt as parameters.
    if host and "/" not in host and "," not in host and "," not in port:
        rest.pop("host")
        authority = f"[{host}]" if ":" in host else host
        if rest.pop("port", ""):
            authority += f":{port}"
    credentials = user + (f":{quote(password, safe='')}" if password else "")
    url = f"postgresql://{credentials}{'@' if credentials else ''}{authority}/{database}"
    return url + (f"?{urlencode(rest, quote_via=quote)}" if rest else "")


def ensure_roles(connection: psycopg.Connection, *, secrets_dir: Path) -> tuple[str, ...]:
    """Create the missing roles, and give a new password to those whose password is not known.

    `connection` is the owner's. Returns the names of the roles that were created or changed.
    """
    secrets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    changed = [
        name for name in (*SERVICES, INSPECTOR) if _ensure_role(connection, name, secrets_dir)
    ]
    return tuple(f"pawl_{name}" for name in changed)


def roles_are_known(connection: psycopg.Connection, *, secrets_dir: Path) -> bool:
    """Whether every role exists and is let in by its kept password."""
    names = (*SERVICES, INSPECTOR)
    found = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", ([f"pawl_{n}" for n in names],)
    ).fetchall()
    return len(found) == len(names) and all(_opens(connection, n, secrets_dir) for n in names)


def _ensure_role(connection: psycopg.Connection, name: str, secrets_dir: Path) -> bool:
    role = f"pawl_{name}"
    path = _password_file(secrets_dir, name)
    exists = (
        connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
        is not None
    )
    if exists and _opens(connection, name, secrets_dir):
        return False
    password = None if exists else _kept_password(path)
    if password is None:
        # A kept one that does not fit may be a part of the right one, and easy to guess.
        password = secrets.token_urlsafe(32)
        _write_secret(path, password)
    verb = sql.SQL(
        "ALTER ROLE {} LOGIN PASSWORD {}" if exists else "CREATE ROLE {} LOGIN PASSWORD {}"
    )
    # The server is sent the verifier, so that the password itself never stands in its log.
    verifier = connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    )
    connection.execute(verb.format(sql.Identifier(role), sql.Literal(verifier.decode())))
    return True


def _opens(connection: psycopg.Connection, name: str, secrets_dir: Path) -> bool:
    """Whether the kept password lets the role in (another Pawl may have changed it)."""
    password = _kept_password(_password_file(secrets_dir, name))
    if password is None:
        return False
    dsn = with_user(connection.info.dsn, user=f"pawl_{name}", password=password)
    try:
        psycopg.connect(dsn, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        # Only a refusal says something about the password; a full server, for one, does not.
        if "password authentication failed" not in str(error):
            raise
        return False
    return True


def _kept_password(path: Path) -> str | None:
    """The password in the file; None when there is none, or what is there cannot be one."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    return text if text and text.isascii() and text.isprintable() else None


def _write_secret(path: Path, secret: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _password_file(secrets_dir: Path, name: str) -> Path:
    return secrets_dir / f"db_{name}_password"
