"""examples/cron/pawl-task, the recipe for cron, against a whole Pawl."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from libs.cli.client import Client
from libs.cli.stack import Stack
from tests.e2e.tasks import FAILING, new_tenant
from tests.recording_proxy import Break, RecordingProxy, Refusal, recording_proxy

pytestmark = pytest.mark.e2e

SCRIPT = Path(__file__).parents[2] / "examples" / "cron" / "pawl-task"
ANSWER: dict[str, Any] = {"task_definition": {"expression": "6 * 7"}}
SLOW: dict[str, Any] = {
    "task_definition": {},
    "plan": {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": 8}}]},
}
TOO_MANY = Refusal(status=429, headers={"Retry-After": "1"}, body={"code": "rate_limited"})
AWAY = Refusal(status=503, headers={"Retry-After": "1"}, body={"code": "unavailable"})


@dataclass(kw_only=True)
class Cron:
    """A machine with the script, a key of a tenant of its own, and a proxy before Pawl."""

    home: Path
    client: Client
    proxy: RecordingProxy

    @property
    def key_file(self) -> Path:
        return self.home / "key"

    def run(
        self, body: object = ANSWER, *, job: str = "report", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """As a line of a crontab would: with next to nothing in the environment."""
        task = self.home / "task.json"
        task.write_text(json.dumps(body), encoding="utf-8")
        env = {
            "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "PAWL_URL": self.proxy.url,
            "PAWL_KEY_FILE": str(self.key_file),
        }
        return subprocess.run(
            [str(SCRIPT), job, str(task)],
            cwd=self.home,
            env=env | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def at(self, minute: str) -> None:
        """Let `date -u` say this minute; the rest of `date` stays as it is."""
        fake = self.home / "bin" / "date"
        fake.parent.mkdir(exist_ok=True)
        real = 'PATH=${PATH#*:} exec date "$@"'
        fake.write_text(f'#!/bin/sh\n[ "$1" != -u ] || exec echo {minute}\n{real}\n')
        fake.chmod(0o755)

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """All tasks of the tenant."""
        return list(self.client.pages("/api/v1/tasks", {"limit": 200}))

    @property
    def keys(self) -> list[str]:
        """The Idempotency-Keys of all requests."""
        return [seen.headers["idempotency-key"] for seen in self.proxy.seen]


@pytest.fixture
def cron(stack: Stack, tmp_path: Path) -> Iterator[Cron]:
    client = new_tenant(stack, f"cron-{secrets.token_hex(4)}")
    with recording_proxy(stack.server.url) as proxy:
        made = Cron(home=tmp_path, client=client, proxy=proxy)
        made.key_file.write_text(client.server.api_key + "\n")
        made.key_file.chmod(0o600)
        yield made


def test_a_task_that_succeeds_is_printed_and_the_exit_code_is_0(cron: Cron) -> None:
    done = cron.run()

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["result"] == {"result": 42}


def test_a_task_that_fails_is_printed_and_the_exit_code_is_1(cron: Cron) -> None:
    done = cron.run(FAILING)

    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["failure"]["index"] == 2


def test_what_the_task_itself_says_is_not_taken_for_its_status(cron: Cron) -> None:
    body = {
        "task_definition": {},
        "plan": {
            "steps": [
                {
                    "step_index": 1,
                    "tool": "json_query",
                    "input": {"data": {"status": "failed"}, "query": "@"},
                }
            ]
        },
    }

    done = cron.run(body)

    assert '"status":"failed"' in done.stdout
    assert done.returncode == 0


def test_started_twice_in_a_minute_is_one_task_and_the_next_minute_another(cron: Cron) -> None:
    cron.at("2026-11-29T07:00Z")
    first, again = cron.run(), cron.run()
    cron.at("2026-11-29T07:01Z")
    later = cron.run()

    ids = [json.loads(done.stdout)["task_id"] for done in (first, again, later)]
    assert ids[0] == ids[1] != ids[2]
    assert {task["task_id"] for task in cron.tasks} == set(ids)
    keys = ["cron-report-2026-11-29T07:00Z"] * 2 + ["cron-report-2026-11-29T07:01Z"]
    assert cron.keys == keys


def test_a_run_named_by_the_crontab_is_the_key_in_place_of_the_minute(cron: Cron) -> None:
    cron.run(PAWL_RUN="2026-11-29")

    assert cron.keys == ["cron-report-2026-11-29"]


def test_429_and_503_are_waited_out_as_retry_after_says(cron: Cron) -> None:
    cron.proxy.hurt("POST", TOO_MANY, AWAY)

    done = cron.run()

    assert (done.returncode, done.stderr) == (0, "")
    assert [seen.status for seen in cron.proxy.seen] == [429, 503, 200]
    assert all(1 <= pause < 5 for pause in cron.proxy.pauses("POST"))
    assert len(cron.tasks) == 1


def test_429_until_next_month_is_not_waited_for(cron: Cron) -> None:
    month = Refusal(status=429, headers={"Retry-After": "172800"}, body={"code": "monthly"})
    cron.proxy.hurt("POST", month)

    done = cron.run()

    assert done.returncode == 3
    assert "HTTP 429" in done.stderr
    assert cron.tasks == []


def test_an_answer_that_is_lost_makes_no_second_task(cron: Cron) -> None:
    cron.proxy.hurt("POST", Break.AFTER_PAWL)

    done = cron.run()

    assert done.returncode == 0
    assert [seen.status for seen in cron.proxy.seen] == [None, 200]
    assert len(set(cron.keys)) == 1
    assert [task["task_id"] for task in cron.tasks] == [json.loads(done.stdout)["task_id"]]


def test_a_task_that_lasts_longer_than_the_deadline_goes_on_without_the_script(cron: Cron) -> None:
    done = cron.run(SLOW, PAWL_DEADLINE="1")

    assert (done.returncode, done.stdout) == (3, "")
    assert "the task has not ended" in done.stderr
    assert [task["status"] for task in cron.tasks] == ["running"]


def test_a_task_that_is_due_after_the_deadline_stays_without_the_script(cron: Cron) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()

    done = cron.run(ANSWER | {"scheduled_at": tomorrow}, PAWL_DEADLINE="3")

    assert done.returncode == 3
    assert "the task has not ended" in done.stderr
    assert [task["status"] for task in cron.tasks] == ["planned"]
    assert cron.proxy.seen[0].path.endswith("?wait=3")


def test_a_refused_task_is_told_and_not_sent_again(cron: Cron) -> None:
    done = cron.run({"task_definition": {"expression": "1"}, "max_stepz": 3})

    assert done.returncode == 2
    assert "unknown_field" in done.stderr
    assert len(cron.proxy.seen) == 1


def test_without_a_key_file_nothing_is_sent(cron: Cron) -> None:
    cron.key_file.unlink()

    done = cron.run()

    assert done.returncode == 4
    assert f"there is no key file: {cron.key_file}" in done.stderr
    assert cron.proxy.seen == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_may_read_is_not_used(cron: Cron, mode: int) -> None:
    cron.key_file.chmod(mode)

    done = cron.run()

    assert done.returncode == 4
    assert f"chmod 600 {cron.key_file}" in done.stderr
    assert cron.proxy.seen == []


@pytest.mark.parametrize("job", ["", "a b", 'x"', "../x", "é"])
def test_a_job_that_is_no_plain_name_is_refused(cron: Cron, job: str) -> None:
    done = cron.run(job=job)

    assert done.returncode == 4
    assert cron.proxy.seen == []
