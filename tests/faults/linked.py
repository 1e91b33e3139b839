"""Starts a service whose calls go through links of the test: its environment says where to."""

from __future__ import annotations

import os
import runpy
from collections.abc import MutableMapping

from psycopg.conninfo import conninfo_to_dict

from libs.cli.up.services import MODULES, TARGETS
from libs.db.roles import to_url
from tests.faults.links import LINKS, Pair, ask_for_links

DATABASE = "database"
_SOCKET = ".s.PGSQL.5432"


def run_linked(service: str) -> None:
    """Be that service; its log and its exit are the service's own."""
    link(os.environ, service)
    runpy.run_module(MODULES[service], run_name="__main__", alter_sys=True)


def link(environ: MutableMapping[str, str], service: str) -> None:
    """Replace the address of everything that the service calls."""
    control = environ[LINKS]
    caller = environ.get("PAWL_LISTEN") or environ["PAWL_HTTP_LISTEN"]
    for callee in TARGETS:
        name = f"PAWL_{callee.upper()}_TARGET"
        upstreams = environ[name].removeprefix("ipv4:").split(",")
        found = ask_for_links(control, pair=Pair(caller, callee), upstreams=upstreams)
        environ[name] = found[0] if len(found) == 1 else "ipv4:" + ",".join(found)
    name = f"PAWL_{service.upper()}_DATABASE_URL"
    if name in environ:
        given = {k: str(v) for k, v in conninfo_to_dict(environ[name]).items() if v is not None}
        upstreams = [f"{given['host']}/{_SOCKET}"]
        pair = Pair(caller, DATABASE)
        (given["host"],) = ask_for_links(control, pair=pair, upstreams=upstreams)
        environ[name] = to_url(given)
