"""Connections go to judged addresses, whatever names do meanwhile."""

from __future__ import annotations

import asyncio
import socket
import threading
from ipaddress import ip_address
from typing import Any

import httpcore2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.net.address_rules import special
from libs.net.allow_list import read_allow_list
from libs.net.egress_rules import EgressRules
from libs.net.guard import MAX_DIALS, GuardedNetwork
from libs.net.own_addresses import is_own
from libs.net.refusals import EgressDenied, EgressRule, ExchangeFailed, ExchangeFault
from libs.net.resolver import Resolver, SystemResolver
from libs.net.urls import read_url
from tests.net_world import PUBLIC, PUBLIC_V6, FakeResolver, HangingResolver, LoopbackNetwork, peer
from tests.unit.net.test_urls import ODD


def guard(resolver: Resolver, network: LoopbackNetwork, *, allowed: str = "") -> GuardedNetwork:
    rules = EgressRules(read_allow_list(allowed))
    return GuardedNetwork(rules, resolver=resolver, network=network, owns=lambda _: False)


async def refusal(network: GuardedNetwork, host: str, port: int = 443) -> EgressRule:
    with pytest.raises(EgressDenied) as denied:
        await network.connect_tcp(host, port)
    return denied.value.rule


async def test_the_judged_address_is_dialed_not_the_name() -> None:
    resolver = FakeResolver([PUBLIC], ["127.0.0.1"])

    async with peer(b"") as server:
        network = LoopbackNetwork(server.port)
        guarded = guard(resolver, network)
        await guarded.connect_tcp("ok.example", 443)
        await guarded.aclose()

    assert network.dialed == [(PUBLIC, 443)]
    assert resolver.names == ["ok.example"]


async def test_a_name_that_turns_inward_is_refused_at_the_next_connection() -> None:
    network = LoopbackNetwork()
    guarded = guard(FakeResolver([PUBLIC], ["127.0.0.1"]), network)

    with pytest.raises(ExchangeFailed):
        await guarded.connect_tcp("ok.example", 443)

    assert await refusal(guarded, "ok.example") is EgressRule.ADDRESS
    assert network.dialed == [(PUBLIC, 443)]


@pytest.mark.parametrize("inward", ["127.0.0.1", "0.0.0.0", "169.254.169.254", "::ffff:7f00:1"])
async def test_one_inward_address_among_many_refuses_all(inward: str) -> None:
    network = LoopbackNetwork()
    guarded = guard(FakeResolver([PUBLIC, PUBLIC_V6, inward]), network)

    assert await refusal(guarded, "ok.example") is EgressRule.ADDRESS
    assert network.dialed == []


@pytest.mark.parametrize(
    ("host", "rule"),
    [
        ("127.0.0.1", EgressRule.ADDRESS),
        ("::1", EgressRule.ADDRESS),
        ("::ffff:127.0.0.1", EgressRule.ADDRESS),
        ("127.1", EgressRule.HOST),
        ("0x7f000001", EgressRule.HOST),
        ("localhost", EgressRule.LOCAL_NAME),
        ("fe80::1%eth0", EgressRule.HOST),
    ],
)
async def test_a_refused_host_is_never_looked_up(host: str, rule: EgressRule) -> None:
    resolver, network = FakeResolver([PUBLIC]), LoopbackNetwork()

    assert await refusal(guard(resolver, network), host) is rule
    assert (resolver.names, network.dialed) == ([], [])


async def test_this_machines_own_address_is_refused() -> None:
    network = LoopbackNetwork()
    guarded = GuardedNetwork(
        EgressRules(), resolver=FakeResolver([PUBLIC]), network=network, owns=lambda _: True
    )

    assert await refusal(guarded, "ok.example") is EgressRule.ADDRESS
    assert network.dialed == []


async def test_the_next_address_is_dialed_when_one_refuses() -> None:
    async with peer(b"") as server:
        network = LoopbackNetwork(server.port, dead=[PUBLIC_V6])
        guarded = guard(FakeResolver([PUBLIC_V6, PUBLIC]), network)
        await guarded.connect_tcp("ok.example", 443)
        await guarded.aclose()

    assert network.dialed == [(PUBLIC_V6, 443), (PUBLIC, 443)]


async def test_not_more_than_some_addresses_are_dialed() -> None:
    network = LoopbackNetwork()
    many = [f"93.184.216.{number}" for number in range(50)]

    with pytest.raises(ExchangeFailed) as failed:
        await guard(FakeResolver(many), network).connect_tcp("ok.example", 443)

    assert failed.value.fault is ExchangeFault.CONNECT
    assert len(network.dialed) == MAX_DIALS


async def test_a_lookup_that_hangs_ends_in_time() -> None:
    with pytest.raises(ExchangeFailed) as failed:
        await guard(HangingResolver(), LoopbackNetwork()).connect_tcp(
            "ok.example", 443, timeout=0.01
        )

    assert failed.value.fault is ExchangeFault.CONNECT_TIMEOUT


async def test_paths_and_pauses_are_no_business_of_egress() -> None:
    guarded = guard(FakeResolver(), LoopbackNetwork())

    with pytest.raises(NotImplementedError):
        await guarded.connect_unix_socket("/run/docker.sock")
    with pytest.raises(NotImplementedError):
        await guarded.sleep(1)


ADDRESSES = st.lists(
    st.one_of(
        st.ip_addresses().map(str),
        st.sampled_from([PUBLIC, PUBLIC_V6, "127.0.0.1", "10.0.0.1", "::1", "169.254.169.254"]),
    ),
    min_size=1,
    max_size=4,
)


@given(text=st.one_of(ODD, ODD.map(lambda text: f"http://{text}")), answers=st.lists(ADDRESSES))
def test_whatever_the_url_only_public_addresses_are_dialed(
    text: str, answers: list[list[str]]
) -> None:
    network = LoopbackNetwork()

    async def go() -> None:
        url = read_url(text)
        await guard(FakeResolver(*answers), network).connect_tcp(url.host.text, url.port)

    with pytest.raises((EgressDenied, ExchangeFailed)):
        asyncio.run(go())

    for address, port in network.dialed:
        assert special(ip_address(address)) is None
        assert port in {80, 443}


async def test_the_system_knows_localhost_and_not_every_name() -> None:
    resolver = SystemResolver()

    found = await resolver.resolve("localhost")

    assert ip_address("127.0.0.1") in found
    with pytest.raises(ExchangeFailed) as failed:
        await resolver.resolve("nowhere.invalid")
    assert failed.value.fault is ExchangeFault.DNS


async def test_a_lookup_may_be_given_up() -> None:
    resolver = SystemResolver(max_lookups=1)
    lookup = asyncio.create_task(resolver.resolve("localhost"))
    await asyncio.sleep(0)

    lookup.cancel()

    with pytest.raises(asyncio.CancelledError):
        await lookup
    assert await resolver.resolve("localhost")


@pytest.mark.parametrize("failing", ["start", "look_up"])
async def test_a_lookup_that_breaks_gives_its_turn_back(
    failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = SystemResolver(max_lookups=1)

    def broken(*args: object, **kwargs: object) -> None:
        del args, kwargs
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        if failing == "start":
            patch.setattr(threading.Thread, "start", broken)
        else:
            patch.setattr(socket, "getaddrinfo", broken)
        with pytest.raises(ExchangeFailed) as failed:
            async with asyncio.timeout(5):
                await resolver.resolve("localhost")

    assert failed.value.fault is ExchangeFault.DNS
    async with asyncio.timeout(5):
        assert await resolver.resolve("localhost")


async def test_lookups_that_hang_keep_out_nobody_but_their_asker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver = SystemResolver(max_lookups=3, max_each=2)
    over, look_up = threading.Event(), socket.getaddrinfo

    def hanging(name: bytes, *args: Any, **kwargs: Any) -> Any:
        if name != b"localhost":
            over.wait(20)
        return look_up(b"localhost", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    lookups = [asyncio.create_task(resolver.resolve("a.example", asker="a")) for _ in range(5)]
    await asyncio.sleep(0)
    for lookup in lookups:  # their steps end; the threads do not
        lookup.cancel()
    await asyncio.gather(*lookups, return_exceptions=True)
    lookups = [asyncio.create_task(resolver.resolve("a.example", asker="a")) for _ in range(5)]

    try:
        async with asyncio.timeout(5):
            assert await resolver.resolve("localhost", asker="b")
    finally:
        over.set()
    assert all(await asyncio.gather(*lookups))


async def test_a_lookup_is_made_for_who_asks() -> None:
    resolver = FakeResolver([PUBLIC])
    network = GuardedNetwork(
        EgressRules(), resolver=resolver, network=LoopbackNetwork(), asker="tenant"
    )

    with pytest.raises(ExchangeFailed):
        await network.connect_tcp("ok.example", 443)

    assert resolver.askers == ["tenant"]


def test_own_addresses_are_those_of_this_machine() -> None:
    assert is_own(ip_address("127.0.0.1"))
    assert not is_own(ip_address("192.0.2.1"))


def test_the_guard_is_a_network_of_httpcore() -> None:
    assert issubclass(GuardedNetwork, httpcore2.AsyncNetworkBackend)
