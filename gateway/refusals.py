"""The gateway's own refusals of requests: no key, beyond a limit, too much at once."""

from __future__ import annotations

import math
from dataclasses import replace

from gateway.permits import Answer
from libs.core.errors import PawlError
from libs.core.tiers import MONTHLY_REQUESTS


class Limited(PawlError):  # noqa: N818 - a refusal, as PawlError is
    """A request beyond a limit of its tenant (429), with how that limit stands."""

    def __init__(self, answer: Answer, *, now: float) -> None:
        wait = max(1.0, answer.retry_after(now))
        code, message = _limit_words(answer, wait)
        super().__init__(code, message, retry_after_seconds=wait)
        standing = answer.standing(left=0, now=now)
        # The draft: beside Retry-After the reset means the same moment.
        self.standing = None if standing is None else replace(standing, reset_seconds=wait)


def _limit_words(answer: Answer, wait: float) -> tuple[str, str]:
    """The code and the words of a refusal: the limit, its number, the tier, how long to wait."""
    again = f"the next one is allowed in {math.ceil(wait)} s"
    if answer.limit_name == MONTHLY_REQUESTS:
        allowed = f"{answer.limit} requests per calendar month (UTC)"
        code = "monthly_requests_exceeded"
    else:
        allowed = f"{answer.limit} requests per minute"
        code = "rate_limited"
    return code, f"{answer.limit_name}: the tier {answer.tier} allows {allowed}; {again}"


def auth_is_away(error: PawlError) -> PawlError:
    """What somebody who waited for auth is told; each is told in an error of their own."""
    if error.code == "deadline_exceeded":
        return PawlError("unavailable", "auth did not answer in time", retry_after_seconds=1)
    return error.reworded(error.message, error.errors)


def no_key() -> PawlError:
    """For whatever is no living key; which reason it is, is not said."""
    return PawlError(
        "unauthenticated", "the Authorization header must be: Bearer <a valid API key>"
    )


def overloaded() -> PawlError:
    """More is asked than can be passed on in time."""
    return PawlError("unavailable", "too much is asked at once", retry_after_seconds=1)
