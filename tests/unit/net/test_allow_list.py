"""What operators allow, and how they are told of mistakes."""

from __future__ import annotations

import ipaddress

import pytest

from libs.net.allow_list import MAX_ENTRIES, read_allow_list
from libs.net.hosts import read_host


def test_an_empty_list_allows_nothing_more() -> None:
    allowed = read_allow_list(" , ")

    assert allowed.ports == {80, 443}
    assert not allowed.may_list(80)
    assert not allowed.has_name(read_host("localhost"), 80)


@pytest.mark.parametrize(
    ("text", "host", "port", "expected"),
    [
        ("wiki.corp", "wiki.corp", 80, True),
        ("wiki.corp", "wiki.corp", 8080, True),
        ("Wiki.Corp:8080", "wiki.corp", 8080, True),
        ("wiki.corp:8080", "wiki.corp", 80, False),
        ("wiki.corp", "a.wiki.corp", 80, False),
        ("wiki.corp", "wiki.corp.example", 80, False),
        ("bücher.example", "xn--bcher-kva.example", 80, True),
        ("loopback", "localhost", 3000, True),
        ("loopback:3000", "localhost", 3001, False),
        ("127.0.0.1", "localhost", 80, False),
    ],
)
def test_names_are_listed_exactly(text: str, host: str, port: int, *, expected: bool) -> None:
    assert read_allow_list(text).has_name(read_host(host), port) is expected


@pytest.mark.parametrize(
    ("text", "address", "port", "expected"),
    [
        ("10.0.0.0/8", "10.9.8.7", 9200, True),
        ("10.0.0.0/8:9200", "10.9.8.7", 9200, True),
        ("10.0.0.0/8:9200", "10.9.8.7", 80, False),
        ("10.0.0.0/8", "11.0.0.1", 80, False),
        ("10.0.0.5", "10.0.0.5", 80, True),
        ("10.0.0.5:81", "10.0.0.5", 80, False),
        ("10.0.0.5,10.0.0.6", "10.0.0.6", 80, True),
        ("fd00::/8", "fd00::1", 80, True),
        ("fd00::1", "fd00::1", 80, True),
        ("[fd00::1]:81", "fd00::1", 81, True),
        ("[fd00::/8]:81", "fd12::1", 81, True),
        ("[fd00::/8]", "fd12::1", 82, True),
        ("loopback", "127.9.9.9", 80, True),
        ("LOOPBACK:3000", "::1", 3000, True),
        ("loopback", "::ffff:127.0.0.1", 80, False),
        ("64:ff9b::/96", "64:ff9b::808:808", 443, True),
        ("64:ff9b::/96", "64:ff9b::10.0.0.1", 443, False),
        ("64:ff9b::/96,10.0.0.0/8", "64:ff9b::10.0.0.1", 443, True),
        ("169.254.169.254", "169.254.169.254", 80, True),
    ],
)
def test_addresses_are_listed_by_network(
    text: str, address: str, port: int, *, expected: bool
) -> None:
    assert read_allow_list(text).has_address(ipaddress.ip_address(address), port) is expected


def test_ports_are_added() -> None:
    assert read_allow_list("*:8443, *:8080").ports == {80, 443, 8080, 8443}


@pytest.mark.parametrize(
    "entry",
    [
        "*",
        "*:0",
        "*:x",
        "host:0",
        "host:65536",
        "host:",
        "https://host",
        "host/path",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/8:",
        "127.1",
        "0x7f000001",
        "[fd00::1",
        "fd00::1:x",
        "[::1%lo]",
        "*.example.com",
        "a b",
        "user@host",
    ],
)
def test_a_bad_entry_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="allowed are host, host:port") as refused:
        read_allow_list(f"good.example,{entry}")

    assert str(refused.value).startswith(repr(entry))


def test_too_many_entries_are_refused() -> None:
    with pytest.raises(ValueError, match="1001 entries"):
        read_allow_list(",".join(["a"] * (MAX_ENTRIES + 1)))
