"""Each attack ends with its word, and leaves nothing behind."""

from __future__ import annotations

import os

import pytest

from tests.sandbox import (
    attacks,
    attacks_by_objects,
    attacks_by_source,
    attacks_on_guest,
    attacks_on_host,
)
from tests.sandbox.attacks import Attack
from tests.sandbox.guest_world import GuestWorld
from tests.sandbox.process_table import processes_below

TABLE = [
    pytest.param(attack, id=f"{group}-{attack.name}")
    for group, attacks_of_group in {
        "endless": attacks.ENDLESS,
        "memory": attacks.MEMORY,
        "output": attacks.OUTPUT,
        "files": attacks.FILES,
        "ends": attacks_on_guest.ENDS,
        "tampering": attacks_on_guest.TAMPERING,
        "forgery": attacks_on_guest.FORGERY,
        "results": attacks_by_objects.RESULTS,
        "exceptions": attacks_by_objects.EXCEPTIONS,
        "bombs": attacks_by_source.BOMBS,
        "spellings": attacks_by_source.SPELLINGS,
        "processes": attacks_on_host.PROCESSES,
        "places": attacks_on_host.PLACES,
        "network": attacks_on_host.NETWORK,
        "rights": attacks_on_host.RIGHTS,
    }.items()
    for attack in attacks_of_group
]


@pytest.mark.parametrize("attack", TABLE)
async def test_attack_ends_as_it_must(guests: GuestWorld, attack: Attack) -> None:
    before = processes_below(os.getpid())

    answer = await guests.run(attack.code, **attack.limits)

    error = answer.get("error") or {}
    assert answer.get("code", "") == attack.word, answer
    assert attack.type in {"", error.get("type")}, answer
    assert attack.line in {None, error.get("line")}, answer
    if attack.word:
        assert (attack.found or "") in error.get("message", ""), answer
    elif attack.found is not None:
        assert answer["result"] == attack.found
    assert processes_below(os.getpid()) <= before
