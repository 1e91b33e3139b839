"""The same world as a state machine of hypothesis: what it finds, it makes small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.simulation.__main__ import quiet
from tests.simulation.clients import Wish
from tests.simulation.invariants import Violation
from tests.simulation.machines import Build
from tests.simulation.mutants import StartsAfterCancel
from tests.simulation.profiles import MACHINE_HISTORIES
from tests.simulation.world import World

PROFILE = settings(
    max_examples=MACHINE_HISTORIES,
    stateful_step_count=25,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TIMEOUT_SECONDS = 900
EXECUTORS = st.integers(0, 1)
SCHEDULERS = st.integers(0, 1)
WISHES = st.builds(
    Wish,
    tenant=st.integers(0, 2),
    seconds=st.lists(st.sampled_from((0.01, 0.5, 3.0)), min_size=1, max_size=3).map(tuple),
    fails=st.booleans(),
    priority=st.sampled_from((0, 5)),
    has_agent=st.booleans(),
    scheduled_in=st.sampled_from((None, 2.0)),
)


class WorldMachine(RuleBasedStateMachine):
    """Each rule is something that happens; then some time passes, and everything is judged."""

    build = Build()

    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed: int) -> None:
        self.world = World(seed, self.build)

    @rule(wish=WISHES)
    def submit(self, wish: Wish) -> None:
        self.world.submit(wish)

    @rule(number=st.integers(0, 3))
    def cancel(self, number: int) -> None:
        self.world.cancel(number)

    @rule(wish=WISHES, seconds=st.sampled_from((0.01, 0.1, 1.0, 3.0)))
    def cancel_while_it_runs(self, wish: Wish, seconds: float) -> None:
        self.world.submit(wish)
        self.world.advance(seconds)
        self.world.cancel(0)

    @rule(seconds=st.sampled_from((0.01, 0.1, 1.0, 5.0, 12.0)))
    def advance(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(n=EXECUTORS, is_silent=st.booleans())
    def kill_executor(self, n: int, is_silent: bool) -> None:
        self.world.kill_executor(n, is_silent=is_silent)

    @rule(n=EXECUTORS)
    def start_executor(self, n: int) -> None:
        self.world.start_executor(n)

    @rule(n=EXECUTORS)
    def stop_executor(self, n: int) -> None:
        self.world.stop_executor(n)

    @rule(n=EXECUTORS, is_held=st.booleans())
    def hold_executor(self, n: int, is_held: bool) -> None:
        (self.world.freeze_executor if is_held else self.world.thaw_executor)(n)

    @rule(n=EXECUTORS, up=st.booleans(), down=st.booleans())
    def cut(self, n: int, up: bool, down: bool) -> None:
        self.world.cut(n, up=up, down=down)

    @rule(n=EXECUTORS)
    def heal(self, n: int) -> None:
        self.world.heal(n)

    @rule(n=EXECUTORS)
    def reset(self, n: int) -> None:
        self.world.reset(n)

    @rule(n=SCHEDULERS)
    def kill_scheduler(self, n: int) -> None:
        self.world.kill_scheduler(n)

    @rule(n=SCHEDULERS)
    def start_scheduler(self, n: int) -> None:
        self.world.start_scheduler(n)

    @rule(n=SCHEDULERS)
    def stop_scheduler(self, n: int) -> None:
        self.world.stop_scheduler(n)

    @rule(n=SCHEDULERS, is_held=st.booleans())
    def hold_scheduler(self, n: int, is_held: bool) -> None:
        (self.world.freeze_scheduler if is_held else self.world.thaw_scheduler)(n)

    @rule(is_held=st.booleans())
    def hold_database(self, is_held: bool) -> None:
        (self.world.pause_database if is_held else self.world.resume_database)()

    @rule(seconds=st.sampled_from((-30.0, -1.0, 1.0, 6.0, 30.0)))
    def step_clock(self, seconds: float) -> None:
        self.world.step_clock(seconds)

    @rule(of_a_thousand=st.sampled_from((0, 20, 100)))
    def fail(self, of_a_thousand: int) -> None:
        self.world.fail(of_a_thousand)

    @rule(n=SCHEDULERS, seconds=st.sampled_from((0.5, 8.0)))
    def deafen(self, n: int, seconds: float) -> None:
        self.world.deafen(n, seconds=seconds)

    def teardown(self) -> None:
        try:
            if self.world.violation is None:
                self.world.finish()
        finally:
            self.world.close()


class CancelMutant(WorldMachine):
    """A step may begin after a cancel."""

    build = Build(statements=StartsAfterCancel)


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Nothing is said of what happens in the histories."""
    before: dict[str, Any] = structlog.get_config()
    quiet()
    yield
    structlog.configure(**before)


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_every_invariant_holds_after_every_rule() -> None:
    run_state_machine_as_test(WorldMachine, settings=PROFILE)


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_broken_rule_is_found() -> None:
    # Making it small takes minutes; that is for people.
    patient = settings(PROFILE, max_examples=2000, phases=[Phase.generate])

    with pytest.raises(Violation):
        run_state_machine_as_test(CancelMutant, settings=patient)
