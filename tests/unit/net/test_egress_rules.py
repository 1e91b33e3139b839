"""Who may be reached on which port."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from libs.net.allow_list import read_allow_list
from libs.net.egress_rules import EgressRules
from libs.net.hosts import read_host
from libs.net.refusals import EgressDenied, EgressRule
from libs.net.urls import read_url
from tests.net_world import PUBLIC, PUBLIC_V6


def rules(allowed: str = "") -> EgressRules:
    return EgressRules(read_allow_list(allowed))


def refusal(allowed: str, host: str, port: int, *addresses: str) -> EgressRule | None:
    """Which rule refuses the host with these addresses; None: it is allowed."""
    known = rules(allowed)
    try:
        known.check_host(read_host(host), port)
        known.check_addresses(read_host(host), port, [ip_address(text) for text in addresses])
    except EgressDenied as denied:
        return denied.rule
    return None


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("ok.example", 443, PUBLIC),
        ("ok.example", 80, PUBLIC_V6),
        (PUBLIC, 443, PUBLIC),
        (f"[{PUBLIC_V6}]", 443, PUBLIC_V6),
    ],
)
def test_public_hosts_are_reached(host: str, port: int, address: str) -> None:
    assert refusal("", host, port, address) is None


@pytest.mark.parametrize(
    ("host", "port", "addresses", "rule"),
    [
        ("ok.example", 443, ["10.0.0.9"], EgressRule.ADDRESS),
        ("ok.example", 443, [PUBLIC, "127.0.0.1"], EgressRule.ADDRESS),
        ("ok.example", 443, ["::1", PUBLIC_V6], EgressRule.ADDRESS),
        ("ok.example", 443, ["::ffff:8.8.8.8"], EgressRule.ADDRESS),
        ("ok.example", 5432, [PUBLIC], EgressRule.PORT),
        ("127.0.0.1", 8080, ["127.0.0.1"], EgressRule.ADDRESS),
        ("[::1]", 443, ["::1"], EgressRule.ADDRESS),
        ("kafka", 443, [PUBLIC], EgressRule.LOCAL_NAME),
        ("localhost", 443, ["127.0.0.1"], EgressRule.LOCAL_NAME),
        ("a.localhost", 443, ["127.0.0.1"], EgressRule.LOCAL_NAME),
        ("metadata.google.internal", 80, ["169.254.169.254"], EgressRule.LOCAL_NAME),
        ("db.default.svc.cluster.local", 443, [PUBLIC], EgressRule.LOCAL_NAME),
        ("router.home.arpa", 80, [PUBLIC], EgressRule.LOCAL_NAME),
        ("x.onion", 80, [PUBLIC], EgressRule.LOCAL_NAME),
    ],
)
def test_others_are_refused(host: str, port: int, addresses: list[str], rule: EgressRule) -> None:
    assert refusal("", host, port, *addresses) is rule


@pytest.mark.parametrize(
    ("allowed", "host", "port", "address"),
    [
        ("kafka", "kafka", 9092, "10.0.0.9"),
        ("localhost:3000", "localhost", 3000, "127.0.0.1"),
        ("wiki.corp", "wiki.corp", 80, "fd00::9"),
        ("loopback", "localhost", 3000, "::1"),
        ("loopback", "127.0.0.1", 3000, "127.0.0.1"),
        ("10.0.0.0/8", "kafka", 9092, "10.0.0.9"),
        ("10.0.0.0/8", "wiki.corp.internal", 80, "10.0.0.9"),
        ("10.0.0.0/8", "10.0.0.9", 9092, "10.0.0.9"),
        ("*:8443", "ok.example", 8443, PUBLIC),
        ("partner.example:8443", "partner.example", 8443, PUBLIC),
        ("169.254.169.254", "169.254.169.254", 80, "169.254.169.254"),
    ],
)
def test_what_is_allowed_is_reached(allowed: str, host: str, port: int, address: str) -> None:
    assert refusal(allowed, host, port, address) is None


@pytest.mark.parametrize(
    ("allowed", "host", "port", "address", "rule"),
    [
        ("partner.example", "partner.example", 80, "169.254.169.254", EgressRule.ADDRESS),
        ("partner.example", "partner.example", 80, "168.63.129.16", EgressRule.ADDRESS),
        ("partner.example", "partner.example", 80, "fd00:ec2::254", EgressRule.ADDRESS),
        ("partner.example", "partner.example", 80, "0.0.0.0", EgressRule.ADDRESS),
        ("partner.example", "partner.example", 80, "224.0.0.1", EgressRule.ADDRESS),
        ("partner.example", "partner.example", 80, "::ffff:10.0.0.1", EgressRule.ADDRESS),
        ("partner.example:81", "partner.example", 80, "10.0.0.1", EgressRule.ADDRESS),
        ("partner.example:81", "partner.example", 82, PUBLIC, EgressRule.PORT),
        ("localhost:3000", "127.0.0.1", 3000, "127.0.0.1", EgressRule.ADDRESS),
        ("loopback", "ok.example", 3000, PUBLIC, EgressRule.PORT),
        ("loopback", "kafka", 3000, "10.0.0.9", EgressRule.ADDRESS),
        ("loopback", "printer", 80, PUBLIC, EgressRule.LOCAL_NAME),
        ("*:3000", "127.0.0.1", 3000, "127.0.0.1", EgressRule.ADDRESS),
        ("10.0.0.0/8", "ok.example", 443, "192.168.0.1", EgressRule.ADDRESS),
    ],
)
def test_an_entry_allows_no_more_than_it_says(
    allowed: str, host: str, port: int, address: str, rule: EgressRule
) -> None:
    assert refusal(allowed, host, port, address) is rule


def test_this_machine_is_refused_unless_it_is_listed() -> None:
    host, own = read_host("ok.example"), ip_address(PUBLIC)

    with pytest.raises(EgressDenied, match="this machine itself"):
        rules().check_addresses(host, 443, [own], own=[own])
    rules(PUBLIC).check_addresses(host, 443, [own], own=[own])
    rules("ok.example").check_addresses(host, 443, [own], own=[own])


def test_a_name_is_refused_without_saying_where_it_leads() -> None:
    with pytest.raises(EgressDenied) as denied:
        rules().check_addresses(read_host("db.example"), 443, [ip_address("10.1.2.3")])

    assert denied.value.message == (
        "db.example leads to a private address; public addresses are allowed; "
        "whoever runs Pawl can allow it (PAWL_EGRESS_ALLOW)"
    )


def test_a_refused_port_says_which_are_allowed() -> None:
    with pytest.raises(
        EgressDenied, match=r"the port 25 of ok.example is not .* are 80, 443, 8443"
    ):
        rules("*:8443").check_url(read_url("http://ok.example:25/"))
