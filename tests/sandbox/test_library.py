"""The standard library works in a guest, as far as code without processes and network needs it."""

from __future__ import annotations

from tests.sandbox.guest_world import GuestWorld
from tests.sandbox.library_uses import USES

_EACH = """
result = {}
for name, code in input_data.items():
    try:
        exec(compile(code, name, "exec"), {"__name__": "__main__"})
    except BaseException as error:
        result[name] = repr(error)
"""


async def test_standard_library_works(guests: GuestWorld) -> None:
    failures = await guests.result(_EACH, input=USES)

    assert failures == {}
