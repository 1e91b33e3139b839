"""Keys of the services that were lost or cut short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from libs.cli.up.service_keys import keys_are_whole
from libs.rpc.tokens import SERVICES, KeyRing


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda place: (place / name).write_text(text)


def test_written_keys_are_whole(tmp_path: Path) -> None:
    KeyRing.generate().write(tmp_path)

    assert keys_are_whole(tmp_path, services=SERVICES)
    assert not keys_are_whole(tmp_path, services=[*SERVICES, "a new one"])
    assert not keys_are_whole(tmp_path / "nowhere", services=SERVICES)


@pytest.mark.parametrize(
    "damage",
    [
        write("public_keys.json", ""),
        write("public_keys.json", "{}"),
        write("public_keys.json", '{"keys": [1]}'),
        write("service_auth.jwk", '{"kty": "OK'),
        write("service_auth.jwk", "[]"),
        lambda place: (place / "service_executor.jwk").write_bytes(b"\xff\x00"),
        lambda place: (place / "service_executor.jwk").unlink(),
        lambda place: KeyRing.generate(["planner"]).write(place),
    ],
)
def test_damaged_keys_are_not_whole(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    KeyRing.generate().write(tmp_path)

    damage(tmp_path)

    assert not keys_are_whole(tmp_path, services=SERVICES)
