"""How a tenant's limits on requests stand, as headers: the IETF's draft and the triple before it.

`RateLimit-Policy` and `RateLimit` are structured fields (RFC 9651) as
draft-ietf-httpapi-ratelimit-headers-10 has them; `RateLimit-Limit`, `-Remaining` and `-Reset` are
what that draft had until its sixth version, which clients read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from libs.core.tiers import MONTHLY_REQUESTS, RATE_LIMIT, TierLimits

MINUTE_SECONDS = 60

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The limit that the next request meets first, and all that there are, in the draft's words.

    `remaining` requests are allowed now; it is whole again after `reset_seconds`.
    """

    limit: int
    name: str
    remaining: int
    reset_seconds: float
    policies: str

    @property
    def headers(self) -> list[Header]:
        """The headers of an answer."""
        reset = max(0, math.ceil(self.reset_seconds))
        said = {
            b"ratelimit-policy": self.policies,
            b"ratelimit": f'"{self.name}";r={self.remaining};t={reset}',
            b"ratelimit-limit": str(self.limit),
            b"ratelimit-remaining": str(self.remaining),
            b"ratelimit-reset": str(reset),
        }
        return [(name, text.encode("ascii")) for name, text in said.items()]


def policies_of(limits: TierLimits, *, is_metered: bool) -> str:
    """RateLimit-Policy of a tier; the months of test keys are not counted. A calendar month is no
    window of so many seconds, and has none here.
    """
    policies = []
    if limits.rate_limit_per_minute is not None:
        policies.append(f'"{RATE_LIMIT}";q={limits.rate_limit_per_minute};w={MINUTE_SECONDS}')
    if is_metered and limits.monthly_requests is not None:
        policies.append(f'"{MONTHLY_REQUESTS}";q={limits.monthly_requests}')
    return ", ".join(policies)
