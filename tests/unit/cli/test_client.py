"""The REST client: what it sends, and how it says what went wrong."""

from __future__ import annotations

import socket

import pytest

from libs.cli.client import Client, Refused, Server, Unreachable
from tests.unit.cli.fake_server import FakeServer


def test_get_sends_the_key_and_reads_the_object(fake: FakeServer) -> None:
    fake.json("GET /v1/tools?limit=2", {"data": []})

    answer = Client(fake.server).get("/v1/tools", {"limit": 2, "cursor": None})

    assert answer == {"data": []}
    assert fake.asked[0].headers["authorization"] == "Bearer pawl_test_key"


def test_post_sends_json_with_the_given_headers(fake: FakeServer) -> None:
    fake.json("POST /x", {"ok": True})

    Client(fake.server).post("/x", {"a": [1]}, headers={"Idempotency-Key": "k"})

    (asked,) = fake.asked
    assert (asked.body, asked.headers["idempotency-key"]) == ({"a": [1]}, "k")
    assert asked.headers["content-type"] == "application/json"


def test_a_server_below_a_path_is_asked_there(fake: FakeServer) -> None:
    fake.json("GET /pawl/x", {})

    Client(Server(url=f"{fake.url}/pawl/", api_key="k")).get("/x")

    assert fake.asked[0].path == "/pawl/x"


def test_pages_follow_the_cursor(fake: FakeServer) -> None:
    fake.json("GET /v1/keys?tenant=a", {"data": [{"n": 1}], "next_cursor": "c d"})
    fake.json("GET /v1/keys?tenant=a&cursor=c+d", {"data": [{"n": 2}], "next_cursor": None})

    items = list(Client(fake.server).pages("/v1/keys", {"tenant": "a"}))

    assert items == [{"n": 1}, {"n": 2}]


def test_a_problem_becomes_lines_for_people(fake: FakeServer) -> None:
    problem = {
        "title": "The request is not valid",
        "detail": "two fields are wrong",
        "code": "validation_failed",
        "request_id": "req_1",
        "errors": [
            {"field": "max_steps", "detail": "must be at least 1"},
            {"field": "", "detail": "is odd"},
        ],
    }
    fake.json("POST /x", problem, status=422)

    with pytest.raises(Refused) as refused:
        Client(fake.server).post("/x", {})

    assert refused.value.lines == [
        "422 (validation_failed): two fields are wrong",
        "max_steps: must be at least 1",
        "body: is odd",
        "request req_1",
    ]


def test_an_error_that_is_no_problem_still_has_words(fake: FakeServer) -> None:
    fake.raw("GET /x", b"<html>", status=502)

    with pytest.raises(Refused, match="502: Bad Gateway"):
        Client(fake.server).get("/x")


def test_an_invalid_key_says_what_to_do(fake: FakeServer) -> None:
    fake.json("GET /x", {"code": "unauthenticated", "detail": "no"}, status=401)

    with pytest.raises(Refused) as refused:
        Client(fake.server).get("/x")

    assert "PAWL_API_KEY" in refused.value.lines[1]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"\xff"])
def test_another_server_is_told_apart(fake: FakeServer, body: bytes) -> None:
    fake.raw("GET /x", body)

    with pytest.raises(Unreachable, match="but not"):
        Client(fake.server).get("/x")


def test_a_closed_port_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    with pytest.raises(Unreachable, match=f"{url} cannot be reached: Connection refused"):
        Client(Server(url=url, api_key="k")).get("/x")


@pytest.mark.parametrize("url", ["localhost:80", "ftp://x", "http://", "/x"])
def test_an_address_without_http_is_refused(url: str) -> None:
    with pytest.raises(Unreachable, match="is not an http"):
        Client(Server(url=url, api_key="k"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://a",
        "http://",
        "http://[::",
        "http://a b",
        "http://a:99999",
        "http://a:x",
        "http://a\tb c",
    ],
)
def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(Unreachable, match="not an http:// or https:// address"):
        Client(Server(url=url, api_key="k"))


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(Unreachable) as caught:
        Client(Server(url="http://me:secret@127.0.0.1:1", api_key="k"))

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "a\nb", "a b", "\u00e9", "\u6f22"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(Unreachable, match="PAWL_API_KEY") as caught:
        Client(Server(url="http://127.0.0.1:1", api_key=key))

    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("url", ["http://..", "http://" + "a" * 64, "http://127.0.0.1:1/\u00e9"])
def test_an_address_that_cannot_be_asked_is_unreachable(url: str) -> None:
    client = Client(Server(url=url, api_key="k"))

    with pytest.raises(Unreachable, match="cannot be reached"):
        client.get("/x")
