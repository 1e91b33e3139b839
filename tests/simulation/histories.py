"""Histories that a seed decides: what happens, in which order, after how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.simulation.clients import Wish
from tests.simulation.invariants import Violation
from tests.simulation.machines import Build
from tests.simulation.world import World

Act = Callable[[World, Random], None]

ACTS = 25
SHORTLY_SECONDS = 3.5
"""With a pause of the database that costs a renewal, and the next heartbeat: less than a lease."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Which acts may happen, how often each; `may_lose`: executors may be gone for long."""

    acts: tuple[tuple[Act, int], ...]
    may_lose: bool


def submit(world: World, random: Random) -> None:
    """One to four tasks."""
    for _ in range(random.choice((1, 1, 2, 4))):
        world.submit(
            Wish(
                tenant=random.randrange(3),
                seconds=tuple(
                    random.choice((0.01, 0.1, 0.5, 1.5, 3.0, 6.0))
                    for _ in range(random.choice((1, 1, 2, 3, 4)))
                ),
                fails=random.randrange(8) == 0,
                priority=random.choice((0, 0, 5)),
                has_agent=random.randrange(4) == 0,
                scheduled_in=random.choice((None, None, None, 2.0, 6.0)),
                total=random.choice((15.0, 15.0, 4.0)),
                key=random.choice((None, None, None, "a key")),
            )
        )


def submit_patient(world: World, random: Random) -> None:
    """Tasks that nothing but their own steps can make fail."""
    for _ in range(random.choice((1, 2, 3))):
        seconds = tuple(random.choice((0.1, 0.5, 1.0)) for _ in range(random.choice((1, 2, 4))))
        world.submit(Wish(tenant=random.randrange(3), seconds=seconds, total=600.0))


def cancel(world: World, random: Random) -> None:
    """Cancel one of the last tasks."""
    world.cancel(random.randrange(4))


def kill_executor(world: World, random: Random) -> None:
    """It dies; mostly a new one starts later."""
    world.kill_executor(_executor(world, random), is_silent=random.randrange(3) == 0)


def start_executors(world: World, random: Random) -> None:
    """What is down starts."""
    world.start_executor(_executor(world, random))
    world.start_scheduler(_scheduler(world, random))


def stop_executor(world: World, random: Random) -> None:
    """It leaves well."""
    world.stop_executor(_executor(world, random))


def freeze_executor(world: World, random: Random) -> None:
    """It stands still."""
    world.freeze_executor(_executor(world, random))


def thaw(world: World, random: Random) -> None:
    """What stood still goes on."""
    world.thaw_executor(_executor(world, random))
    world.thaw_scheduler(_scheduler(world, random))


def freeze_shortly(world: World, random: Random) -> None:
    """It stands still for less than its lease, while it has a stream."""
    n = _executor(world, random)
    world.advance(0.05)
    if not world.is_connected(n):
        return
    world.freeze_executor(n)
    world.advance(random.uniform(0.1, SHORTLY_SECONDS))
    world.thaw_executor(n)


def cut(world: World, random: Random) -> None:
    """A stream lets nothing through, in one direction or both."""
    up, down = random.choice(((True, False), (False, True), (True, True)))
    world.cut(_executor(world, random), up=up, down=down)


def cut_shortly(world: World, random: Random) -> None:
    """A stream that stands lets nothing through for less than a lease."""
    n = _executor(world, random)
    world.advance(0.05)
    if not world.is_connected(n):
        return
    world.cut(n, up=random.randrange(2) == 0, down=random.randrange(2) == 0)
    world.advance(random.uniform(0.1, SHORTLY_SECONDS))
    world.heal(n)


def lose_touch(world: World, random: Random) -> None:
    """An executor stands still, or hears and says nothing, for longer than its lease; others go on
    with its tasks until it comes back.
    """
    n = _executor(world, random)
    if random.randrange(2):
        world.freeze_executor(n)
    else:
        world.cut(n, up=True, down=random.randrange(2) == 0)
    world.start_executor((n + 1) % len(world.executors))
    for _ in range(3):
        submit(world, random)
        world.advance(random.uniform(3.0, 5.0))
    world.heal(n)
    world.thaw_executor(n)


def heal(world: World, random: Random) -> None:
    """A stream lets everything through."""
    world.heal(_executor(world, random))


def reset(world: World, random: Random) -> None:
    """A stream breaks."""
    world.reset(_executor(world, random))


def kill_scheduler(world: World, random: Random) -> None:
    """It dies."""
    world.kill_scheduler(_scheduler(world, random))


def restart_scheduler(world: World, random: Random) -> None:
    """It dies, and another one starts."""
    n = _scheduler(world, random)
    world.kill_scheduler(n)
    world.start_scheduler(n)


def stop_scheduler(world: World, random: Random) -> None:
    """It drains, and another one starts."""
    n = _scheduler(world, random)
    world.stop_scheduler(n)
    world.start_scheduler(n)


def freeze_scheduler(world: World, random: Random) -> None:
    """It stands still."""
    world.freeze_scheduler(_scheduler(world, random))


def pause_database(world: World, random: Random) -> None:
    """It stands still for a time."""
    world.pause_database()
    world.advance(random.choice((0.5, 3.0, 8.0, 20.0)))
    world.resume_database()


def pause_between_drains(world: World, random: Random) -> None:
    """It stands still, while no executor counts on it for its leave."""
    if not world.is_any_leaving:
        pause_database(world, random)


def step_clock(world: World, random: Random) -> None:
    """The database's clock jumps."""
    world.step_clock(random.choice((-30.0, -6.0, -1.0, 1.0, 6.0, 30.0)))


def deafen(world: World, random: Random) -> None:
    """A scheduler hears no notifications."""
    world.deafen(_scheduler(world, random), seconds=random.uniform(0.1, 8.0))


def break_statements(world: World, random: Random) -> None:
    """Some statements fail, some answers get lost; or no more."""
    world.fail(random.choice((0, 0, 20, 100)))


def break_few_statements(world: World, random: Random) -> None:
    """So few fail that they alone bring nobody down."""
    world.fail(random.choice((0, 5, 15)))


CLIENTS = ((submit, 6), (cancel, 3))
STORM = Profile(
    may_lose=True,
    acts=(
        *CLIENTS,
        (kill_executor, 2),
        (start_executors, 5),
        (stop_executor, 1),
        (freeze_executor, 2),
        (thaw, 4),
        (cut, 2),
        (heal, 3),
        (lose_touch, 1),
        (reset, 2),
        (kill_scheduler, 1),
        (restart_scheduler, 1),
        (stop_scheduler, 1),
        (freeze_scheduler, 1),
        (pause_database, 1),
        (step_clock, 1),
        (deafen, 1),
        (break_statements, 2),
    ),
)
"""Everything at once."""

BREEZE = Profile(
    may_lose=False,
    acts=(
        (submit_patient, 6),
        (cancel, 2),
        (reset, 3),
        (freeze_shortly, 2),
        (cut_shortly, 2),
        (restart_scheduler, 1),
        (stop_scheduler, 1),
        (pause_between_drains, 1),
        (deafen, 1),
        (stop_executor, 1),
        (start_executors, 3),
    ),
)
"""Nothing that lasts as long as a lease: no task may be lost for it."""
PROFILES = {"storm": STORM, "breeze": BREEZE}


@dataclass
class Told:
    """What came of histories: how many, what happened in them, the first that went wrong."""

    histories: int = 0
    acts: int = 0
    seconds: float = 0.0
    marks: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: Told) -> None:
        """Both together."""
        self.histories += other.histories
        self.acts += other.acts
        self.seconds += other.seconds
        self.marks += other.marks
        self.failures += other.failures


def run(
    seed: int,
    profile: Profile,
    told: Told,
    *,
    build: Build | None = None,
    world: type[World] = World,
) -> None:
    """One whole history; what goes wrong goes to `told`."""
    random = Random(seed)
    build = build or Build(schedulers=random.choice((1, 2, 2, 3)))
    build.may_lose = profile.may_lose
    here = world(seed, build)
    acts, weights = zip(*profile.acts, strict=True)
    try:
        for _ in range(ACTS):
            (act,) = random.choices(acts, weights)
            act(here, random)
            told.marks[act.__name__] += 1
            here.advance(random.choice((0.0, 0.01, 0.1, 0.5, 1.0, 3.0)))
        here.finish()
    except Violation as violation:
        told.failures.append((seed, str(violation)))
    finally:
        here.close()
    told.histories += 1
    told.acts += ACTS
    told.seconds += here.loop.time()
    told.marks += here.marks


def _executor(world: World, random: Random) -> int:
    return random.randrange(len(world.executors))


def _scheduler(world: World, random: Random) -> int:
    return random.randrange(len(world.schedulers))
