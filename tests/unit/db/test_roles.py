from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from libs.db.roles import service_dsn, to_url, with_database


@pytest.mark.parametrize(
    "owner",
    [
        "postgresql://owner:own@db.example:5433/pawl?sslmode=require",
        "host=db.example port=5433 user=owner password=own dbname=pawl sslmode=require",
    ],
)
def test_address_of_a_service_keeps_everything_but_who(tmp_path: Path, owner: str) -> None:
    (tmp_path / "db_auth_password").write_text("a b@/:%\n")

    dsn = service_dsn(owner, "auth", tmp_path)

    assert dsn == "postgresql://pawl_auth:a%20b%40%2F%3A%25@db.example:5433/pawl?sslmode=require"
    assert conninfo_to_dict(dsn)["password"] == "a b@/:%"


@pytest.mark.parametrize(
    ("parameters", "url"),
    [
        (
            {"user": "postgres", "dbname": "pawl", "host": "/var/run dir"},
            "postgresql://postgres@/pawl?host=%2Fvar%2Frun%20dir",
        ),
        ({"host": "::1", "dbname": "x"}, "postgresql://[::1]/x"),
        ({"host": "a,b", "port": "1,2", "dbname": "x"}, "postgresql:///x?host=a%2Cb&port=1%2C2"),
    ],
)
def test_url_is_what_libpq_reads(parameters: dict[str, str], url: str) -> None:
    assert to_url(parameters) == url
    assert conninfo_to_dict(url) == parameters


def test_another_database_of_the_same_server() -> None:
    assert with_database("postgresql://u:p@h/one", "two") == "postgresql://u:p@h/two"
