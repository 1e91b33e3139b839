"""Hosts have one spelling."""

from __future__ import annotations

import pytest

from libs.net.hosts import read_host
from libs.net.refusals import EgressDenied, EgressRule


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Example.COM", "example.com"),
        ("a-b.c_d.example", "a-b.c_d.example"),
        ("r3---sn-x.example", "r3---sn-x.example"),
        ("1.2.3.4.com", "1.2.3.4.com"),
        ("1e1", "1e1"),
        ("0xgg.example", "0xgg.example"),
        ("8.8.8.8", "8.8.8.8"),
        ("0.0.0.0", "0.0.0.0"),
        ("[::1]", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[::FFFF:127.0.0.1]", "::ffff:7f00:1"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("XN--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("a" * 63, "a" * 63),
    ],
)
def test_host_is_read(text: str, host: str) -> None:
    assert read_host(text).text == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "example.com.",
        "127.0.0.1.",
        "localhost.",
        "a..b",
        ".a",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0X7F.0.0.1",
        "0x",
        "127.0.0.0x1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.01",
        "127.0.0.256",
        "1.2.3.4.5",
        "example.123",
        "00000.0.0.0",
        "127.0.0.1 ",
        "-a.example",
        "a-.example",
        "a b",
        "a%2eb",
        "%31%32%37.0.0.1",
        "a/b",
        "a,b",
        "a*b",
        "a'b",
        "a$b",
        "a:b",
        "[::1",
        "::1]",
        "::1",
        "[]",
        "[127.0.0.1]",
        "[example.com]",
        "[::1%lo]",
        "[fe80::1%25eth0]",
        "[::1]x",
        "[v1.x]",
        "[::١]",
        "a" * 64,
        ".".join(["a" * 60] * 5),
        "\uff11\uff12\uff17.0.0.1",
        "①②⑦.0.0.1",
        "١٢٧.٠.٠.١",
        "127。0。0。1",
        "localhost。example",
        "ｌocalhost",
        "MÜNCHEN.example",
        "loc\u00adalhost.example",
        "a\u200bb.example",
        "\u212aelvin.example",
        "☃.example",
        "xn--n3h.example",
        "xn--.example",
        "xn--zzzzzz.example",
        "xn--a-.example",
        "xn--127-.0.0.1",
        "ü" * 63,
    ],
)
def test_host_in_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(EgressDenied) as denied:
        read_host(text)

    assert denied.value.rule is EgressRule.HOST
    assert denied.value.message.isascii()
