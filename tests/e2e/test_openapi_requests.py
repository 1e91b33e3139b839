"""A whole Pawl keeps to its OpenAPI document, whatever the requests; schemathesis makes them."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from libs.cli.client import Client, Server
from libs.cli.stack import Stack, running_stack
from tests.e2e.tasks import EXECUTE
from tests.published import check_published
from tests.stacks import StackEnvirons

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests/e2e/schemathesis.toml"
RUN_SECONDS = 270
SEEDS = 3
SHOWN_CHARACTERS = 20_000

BRIEFLY = ("--phases", "examples,coverage")

Statuses = dict[str, Counter[int]]
Seeds = dict[str, list[dict[str, str]]]


@pytest_asyncio.fixture(scope="module")
async def own_stack(
    tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons
) -> AsyncIterator[Stack]:
    """A Pawl that nobody else uses: its tenants, keys and people come and go."""
    data_dir = tmp_path_factory.mktemp("tried") / "data"
    with running_stack(data_dir, environ=environs.fresh()) as running:
        yield running
        await check_published(running)


@pytest.mark.timeout(RUN_SECONDS + 30)
def test_no_request_is_answered_otherwise_than_the_document_says(
    own_stack: Stack, tmp_path: Path
) -> None:
    client = Client(own_stack.server)
    client.post(f"{EXECUTE}?wait=10", {"task_definition": {"expression": "6*7"}})

    statuses = tried(own_stack.server, tmp_path, own=own_things(client), seeds=seeds(client))

    reached = {operation for operation, seen in statuses.items() if succeeded(seen)}
    assert reached >= operations_of(client.get("/openapi.json"))
    total = sum(statuses.values(), Counter())
    assert total[429] == 0
    assert total[401] < total.total() / 10
    assert client.get("/v1/keys")["data"], "the run's own key is still good"


@pytest.mark.timeout(RUN_SECONDS + 30)
@pytest.mark.parametrize(
    ("tier", "role", "status"), [("enterprise", "viewer", 403), ("free", "", 429)]
)
def test_who_may_little_is_refused_as_the_document_says(
    own_stack: Stack, tmp_path: Path, tier: str, role: str, status: int
) -> None:
    operator = Client(own_stack.server)
    asked: dict[str, Any] = {"tenant": f"tried-{secrets.token_hex(4)}"}
    operator.post("/v1/tenants", {"name": asked["tenant"], "tier": tier})
    if role:
        person = operator.post("/v1/users", asked | {"email": "p@example.net", "role": role})
        asked["user_number"] = person["number"]
    key = operator.post("/v1/keys", asked | {"mode": "test"})["key"]

    statuses = tried(Server(url=own_stack.server.url, api_key=key), tmp_path, *BRIEFLY)

    assert sum(statuses.values(), Counter())[status] > 100


def tried(
    server: Server,
    directory: Path,
    *options: str,
    own: Iterable[str] = (),
    seeds: Seeds | None = None,
) -> Statuses:
    """Let schemathesis try the document of a running Pawl; how often it was answered with what."""
    report = directory / "report.ndjson"
    program = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG)]
    document = f"{server.url}/openapi.json"
    settings = {
        "PYTHONPATH": str(ROOT),
        "PAWL_API_KEY": server.api_key,
        "PAWL_TEST_OWN": ",".join(own),
        "PAWL_TEST_SEEDS": json.dumps(seeds or {}),
    }

    run = subprocess.run(
        [*program, "run", document, "--report-ndjson-path", str(report), *options],
        cwd=directory,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )

    assert run.returncode == 0, (run.stdout + run.stderr)[-SHOWN_CHARACTERS:]
    return statuses_of(report)


def own_things(client: Client) -> tuple[str, ...]:
    """The key, tenant and person that ask; without them the run would end."""
    key = client.get("/v1/keys")["data"][-1]
    return (key["id"], key["tenant_id"], str(key["user_number"]), "default")


def seeds(client: Client) -> Seeds:
    """Things that are there, for operations that a run might not find any for."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    task = {"task_definition": {"expression": "1+1"}, "scheduled_at": tomorrow}
    waiting = client.post("/api/v1/tasks/batch", {"tasks": [task] * SEEDS})["tasks"]
    people = [
        client.post("/v1/users", {"email": f"p{number}@example.org", "role": "viewer"})["number"]
        for number in range(2 * SEEDS)
    ]
    numbers = [{"number": str(number)} for number in people]
    return {
        "POST /v1/tasks/{task_id}/cancel": [{"task_id": one["task_id"]} for one in waiting],
        "PATCH /v1/users/{number}": numbers[:SEEDS],
        "DELETE /v1/users/{number}": numbers[SEEDS:],
    }


def statuses_of(report: Path) -> Statuses:
    """How often each operation was answered with each status."""
    found: Statuses = defaultdict(Counter)
    for scenario in scenarios_of(report):
        for case_id, interaction in scenario.get("interactions", {}).items():
            case = scenario["cases"][case_id]["value"]
            answer = interaction.get("response")
            assert answer is not None, (case, "was not answered")
            found[f"{case['method']} {case['path']}"][answer["status_code"]] += 1
    return found


def scenarios_of(report: Path) -> Iterator[dict[str, Any]]:
    """The recorded scenarios of a run."""
    with report.open() as lines:
        for line in lines:
            event = json.loads(line)
            if "ScenarioFinished" in event:
                yield event["ScenarioFinished"]["recorder"]


def succeeded(seen: Counter[int]) -> bool:
    """Whether a request was granted."""
    return any(200 <= status < 300 for status in seen)


def operations_of(document: dict[str, Any]) -> set[str]:
    """The operations of the document, as the report names them."""
    return {
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method in operations
    }
