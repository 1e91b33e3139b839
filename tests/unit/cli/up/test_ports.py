from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from libs.cli.up.ports import choose_http_port, choose_ports, is_free
from libs.process.env import ConfigError


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        yield server.getsockname()[1]


def test_ports_are_those_of_last_time_where_free(taken: int) -> None:
    first = choose_ports(["a", "b", "c"], before={})

    second = choose_ports(["b", "a", "c", "d"], before={**first, "c": taken})

    assert len(set(first.values())) == 3
    assert (second["a"], second["b"]) == (first["a"], first["b"])
    assert second["c"] != taken
    assert len(set(second.values())) == 4


def test_ports_are_outside_of_those_that_the_kernel_gives_away() -> None:
    chosen = choose_ports([str(number) for number in range(20)], before={})

    assert all(21000 <= port < 31000 for port in chosen.values())


def test_http_port_is_the_wanted_one_or_an_error(taken: int) -> None:
    free = choose_ports(["x"], before={})["x"]

    assert choose_http_port(free, before=None) == free
    with pytest.raises(ConfigError, match=f"port {taken} is in use"):
        choose_http_port(taken, before=None)


def test_http_port_stays_where_it_was(taken: int) -> None:
    free = choose_ports(["x"], before={})["x"]

    assert choose_http_port(None, before=free) == free
    assert choose_http_port(0, before=free) == free
    assert choose_http_port(0, before=taken) not in {taken, 8080}


def test_taken_port_is_not_free(taken: int) -> None:
    assert not is_free(taken)
