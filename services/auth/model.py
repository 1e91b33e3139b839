"""What auth knows: tenants, keys, who uses them, and what was used."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from libs.core.tiers import TierLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """The account that owns tasks and keys."""

    id: UUID
    name: str
    tier: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key without its secret. `expires_at` and `revoked_at` are None for never and not yet."""

    id: UUID
    tenant_id: UUID
    name: str
    prefix: str
    mode: str
    last_four: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @property
    def display(self) -> str:
        """What of the key is shown: its prefix and its last four characters."""
        return f"{self.prefix}_{self.mode}_...{self.last_four}"

    def is_usable(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHolder:
    """A key with what its token says about the holder: the tenant's tier and the user's role."""

    key: ApiKey
    tier: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeKey:
    """A new key and its secret, which exists nowhere else and stays out of every repr."""

    key: ApiKey
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantWanted:
    """A tenant to make, as asked. An empty `email` means name@localhost."""

    name: str
    tier: str
    email: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWanted:
    """A key to make, as asked; empty means the default that the proto names."""

    tenant: str = ""
    name: str = ""
    mode: str = ""
    prefix: str = ""
    scopes: tuple[str, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantPage:
    """Some tenants and the token of the next page, empty after the last."""

    tenants: tuple[Tenant, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPage:
    """Some keys and the token of the next page, empty after the last."""

    keys: tuple[ApiKey, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFact:
    """What an event says that metering needs; `kind` is the event's word, such as step_finished."""

    kind: str
    tenant_id: UUID
    seq: int
    at: datetime
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one event adds to a tenant's month (YYYY-MM, UTC)."""

    tenant_id: UUID
    month: str
    tasks: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a tenant used in one month (YYYY-MM, UTC)."""

    month: str
    tasks: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticated:
    """A caller token (kept out of every repr), when it ends, and whom it speaks for."""

    token: str = field(repr=False)
    expires_at: datetime
    token_seconds: float
    holder: KeyHolder
    limits: TierLimits
    permits: Permits


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitsAsked:
    """Requests to take permits for, and permits of an earlier answer that lapsed unused."""

    wanted: int = 1
    returned: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitsReturned:
    """Unused permits of a tenant, granted to keys of this mode."""

    tenant_id: UUID
    mode: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitsTaken:
    """What was granted, and how a tenant's minute and month stand after that.

    None where there is no such limit. Seconds until the minute, the month are whole again, and
    until the minute has one request more to give.
    """

    granted: int
    minute_left: int | None
    minute_reset: float | None
    minute_retry: float | None
    month_left: int | None
    month_reset: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permits:
    """What was granted, and the limit that the next request meets first; without a name there is
    none. Seconds; `retry_after_seconds` is 0 while something remains.
    """

    granted: int
    limit_name: str = ""
    limit: int = 0
    remaining: int = 0
    reset_seconds: float = 0.0
    retry_after_seconds: float = 0.0
