"""Chance that comes from the seed, wherever Python takes it from."""

import os
import random
import tempfile
import uuid
from typing import Any

_NODE_BITS = 48
_MULTICAST_BIT = 1 << 40
"""In a node of a UUID: not the address of any machine."""


def settle_chance(seed: int) -> None:
    """Make everything random in this process follow from `seed`.

    That is the module random, new generators without a seed, SystemRandom, secrets, os.urandom,
    os.getrandom, UUIDs and the names of temporary files.
    """
    stream = random.Random(seed)
    genuine_seed = random.Random.seed

    def seed_from_stream(self: random.Random, a: Any = None, version: int = 2) -> None:
        genuine_seed(self, stream.getrandbits(64) if a is None else a, version)

    def getrandom(size: int, flags: int = 0) -> bytes:
        del flags
        return stream.randbytes(size)

    random.Random.seed = seed_from_stream  # type: ignore[method-assign]
    random.seed = random._inst.seed
    random.seed(seed)
    os.urandom = random._urandom = stream.randbytes  # type: ignore[attr-defined]
    os.getrandom = getrandom
    uuid._node = stream.getrandbits(_NODE_BITS) | _MULTICAST_BIT  # type: ignore[attr-defined]
    uuid._generate_time_safe = None  # type: ignore[attr-defined]
    # A sequence of names that exists already would go on from its own state.
    tempfile._name_sequence = None  # type: ignore[attr-defined]
