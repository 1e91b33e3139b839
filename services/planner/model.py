"""What the planner speaks of: tools on offer, requests for a plan, plans and their problems."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from uuid import UUID

from libs.core.canonical import Json
from libs.core.json_schema import Validator
from libs.core.plan import Limits, Plan, Step
from libs.core.tool_spec import ToolRef, ToolSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogTool:
    """One exact tool that was ever registered, with its input schema compiled."""

    spec: ToolSpec
    ref: ToolRef
    input_validator: Validator
    registered_at: datetime


class Absence(Enum):
    """Why there is no tool of a name: never registered, or offered by no living executor."""

    UNKNOWN = auto()
    UNAVAILABLE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The catalogue as it was read at `read_at` (monotonic seconds).

    `by_name` holds the tools of a name, newest version first; `expires` until when (monotonic
    seconds) a tool, by its digest, is on offer.
    """

    read_at: float
    by_name: dict[str, tuple[CatalogTool, ...]] = field(default_factory=dict)
    expires: dict[str, float] = field(default_factory=dict)

    def is_offered(self, tool: CatalogTool, *, now: float) -> bool:
        """Whether a living executor offers exactly this tool at `now` (monotonic seconds)."""
        return self.expires.get(tool.ref.digest, 0.0) > now

    def find(self, name: str, *, now: float) -> CatalogTool | Absence:
        """The newest version of `name` on offer at `now` (monotonic seconds)."""
        tools = self.by_name.get(name)
        if tools is None:
            return Absence.UNKNOWN
        offered = (tool for tool in tools if self.is_offered(tool, now=now))
        return next(offered, Absence.UNAVAILABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The tools that one boot of one executor offers."""

    executor_id: str
    boot_id: UUID
    tools: tuple[ToolSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTool:
    """A tool of the catalogue and whether it is on offer."""

    tool: CatalogTool
    available: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPage:
    """A page of the catalogue; the token is empty on the last one."""

    tools: tuple[ListedTool, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenPlan:
    """The value that a caller sent as a plan: any JSON at all."""

    value: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """Asks for a plan of a task's input. `asked` stands beside the plan, `tier` bounds all."""

    task_input: dict[str, Json]
    given: GivenPlan | None
    asked: Limits
    tier: Limits
    test_mode: bool = False
    tier_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenPlanRequest:
    """Asks whether a frozen plan may run once more, `recorded`: answered from a record in part."""

    plan: Plan
    tool_set: tuple[ToolRef, ...]
    tier: Limits
    test_mode: bool
    recorded: bool
    tier_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with a plan or its limits.

    `code` is the word for the whole refusal, `fine` (the same when unset) the word for this field.
    """

    code: str
    field: str
    detail: str
    fine: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Steps that a generator made, and what people should know about them."""

    steps: tuple[Step, ...]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplannable:
    """Nobody can plan the input; the message says what to configure or supply."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenPlan:
    """A validated plan, tied to exact tools. `planned_by` is caller or offline."""

    plan: Plan
    tool_set: tuple[ToolRef, ...]
    plan_hash: str
    planned_by: str
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What stands against a frozen plan; if nothing does, the names of tools it does not call."""

    recorded_tools: tuple[str, ...]
    problems: tuple[Problem, ...]
