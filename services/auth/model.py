"""What auth knows: tenants, keys, who uses them, and what was used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

from libs.core.canonical import Json
from libs.core.tiers import TierLimits

NOTED_FOR = timedelta(minutes=1)
"""How long a key's last use stays as it was noted: the precision of `last_used_at`."""

AllowList: TypeAlias = tuple[UUID, ...] | None
"""The agents or definitions that a key may use; None: all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """The account that owns tasks and keys."""

    id: UUID
    name: str
    tier: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person of a tenant; `number` is unique over all tenants."""

    number: int
    tenant_id: UUID
    email: str
    role: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key without its secret. `expires_at` and `revoked_at` are None for never and not yet,
    `last_used_at` and `replaced_by_id` for not yet; an allow-list is None for everything.
    """

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
    user_number: int
    allowed_agent_ids: AllowList = None
    allowed_task_ids: AllowList = None
    last_used_at: datetime | None = None
    replaced_by_id: UUID | None = None

    @property
    def display(self) -> str:
        """What of the key is shown: its prefix and its last four characters."""
        return f"{self.prefix}_{self.mode}_...{self.last_four}"

    def is_usable(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def is_use_noted(self, now: datetime) -> bool:
        """Whether it was noted within the last minute that the key is used."""
        return self.last_used_at is not None and now - self.last_used_at < NOTED_FOR


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
    allowed_agent_ids: tuple[str, ...] | None = None
    allowed_task_ids: tuple[str, ...] | None = None
    user_number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationWanted:
    """A key to replace, as asked; None means the default that the proto names."""

    key_id: str
    overlap_seconds: int | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """A new key in place of an old one, and how the old one stands now."""

    made: MadeKey
    replaced: ApiKey


@dataclass(frozen=True, slots=True, kw_only=True)
class UserWanted:
    """A person to add, as asked. An empty `tenant` means the caller's own."""

    email: str
    role: str
    tenant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedUser:
    """A person who was removed, as they were, and how many of their keys that revoked."""

    user: User
    keys_revoked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserPage:
    """Some people and the token of the next page, empty after the last."""

    users: tuple[User, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a line of the audit log says was done: to whom or what, and how it was and is now.

    `actor_key_id` is None for the installation's command line. `details` is flat; never a secret.
    """

    tenant_id: UUID
    actor_key_id: UUID | None
    action: str
    subject: str
    details: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """A line of the audit log as it stands; `details` is JSON text. No number: see the proto."""

    id: int
    tenant_id: UUID
    actor_key_id: UUID | None
    actor_user_number: int | None
    action: str
    subject: str
    details: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """Some lines and the token of the next page, empty after the last."""

    lines: tuple[AuditLine, ...]
    next_page_token: str


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
class Amounts:
    """What tasks used: finished steps, milliseconds in a sandbox, model tokens, US dollars."""

    tasks: int = 0
    steps: int = 0
    sandbox_ms: int = 0
    tokens: int = 0
    cost_usd: Decimal = Decimal(0)

    def __add__(self, other: Amounts) -> Amounts:
        """Both together."""
        return Amounts(
            tasks=self.tasks + other.tasks,
            steps=self.steps + other.steps,
            sandbox_ms=self.sandbox_ms + other.sandbox_ms,
            tokens=self.tokens + other.tokens,
            cost_usd=self.cost_usd + other.cost_usd,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFact:
    """What an event says that metering needs; `kind` is the event's word, such as step_finished.

    `used` has what the event says of tokens, sandbox and cost, and neither tasks nor steps.
    """

    kind: str
    tenant_id: UUID
    seq: int
    at: datetime
    mode: str
    used: Amounts = Amounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What is added to a tenant's day (UTC)."""

    tenant_id: UUID
    day: date
    amounts: Amounts


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUsage:
    """What a tenant used on one day (UTC); `requests` were granted to its live keys."""

    day: date
    requests: int = 0
    amounts: Amounts = Amounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The user whose key asks, and the tenant's tier."""

    user: User
    tier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthUsage:
    """What a tenant used in one month (YYYY-MM, UTC), and who asks."""

    month: str
    requests: int
    amounts: Amounts
    account: Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticated:
    """A caller token (kept out of every repr), when it ends, whom it speaks for, and the scopes
    that are left to the key by the role of its user.
    """

    token: str = field(repr=False)
    expires_at: datetime
    token_seconds: float
    holder: KeyHolder
    scopes: tuple[str, ...]
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
