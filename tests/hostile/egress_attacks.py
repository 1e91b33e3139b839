"""Requests whose names lead where the case says, or whose environment names a proxy.

A whole running Pawl has one resolver and one environment, so these run the tool itself, on a
network in which public addresses are silent and loopback is the real one.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from libs.core.errors import StepFailed
from libs.net.allow_list import read_allow_list
from libs.net.egress_rules import EgressRules
from libs.net.http_client import HttpClient
from services.executor.tools.http_request import HttpRequestTool
from tests.executor_world import make_context
from tests.hostile.canary import Canary
from tests.hostile.case_files import Case, built
from tests.net_world import PUBLIC, FakeResolver, LoopbackNetwork

CALLS = 2
_NOTE = re.compile(r"\(.*\)")


async def attack_in_process(case: Case, canary: Canary) -> None:
    """Call the tool twice, so that a name can lead elsewhere the second time."""
    names = {"CANARY": str(canary.port)}
    arguments = {"url": "https://ok.example/"} | built(case.input.get("input", {}), names=names)
    resolver = FakeResolver(*_answers(case.input.get("dns", f"A {PUBLIC}")))
    network = LoopbackNetwork(canary.port, only_loopback=True)
    rules = EgressRules(read_allow_list(f"*:{canary.port}"))
    tool = HttpRequestTool(HttpClient(rules, resolver=resolver, network=network))
    failures = []
    with pytest.MonkeyPatch.context() as environment:
        for name, value in built(case.input.get("env", {}), names=names).items():
            environment.setenv(name, value)
        for _ in range(CALLS):
            with pytest.raises(StepFailed) as failed:
                await tool.call(arguments, make_context())
            failures.append({str(failed.value.code), failed.value.reason})
    if "step_code" in case.expect:
        assert all(case.expect["step_code"] in words for words in failures), failures
    assert {address for address, _ in network.dialed} <= {PUBLIC}


def _answers(text: str) -> list[list[str]]:
    """`A 192.0.2.1, 192.0.2.2 then 127.0.0.1` as the answers to lookups, in order."""
    plain: Any = _NOTE.sub("", text).removeprefix("A ")
    return [[part.strip() for part in each.split(",")] for each in plain.split(" then ")]
