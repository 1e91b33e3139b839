"""What docker-compose.yml and the Dockerfile promise, read from them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))[
    "services"
]
OF_PAWL = {name for name, one in SERVICES.items() if one["image"].startswith("${PAWL_IMAGE")}
ONE_SHOTS = {"first", "migrate"}
MESH = {"auth", "planner", "scheduler", "executor", "artifact", "gateway"}
FINAL_STAGE = DOCKERFILE[DOCKERFILE.rindex("FROM ") :]


def secrets_of(name: str) -> list[str]:
    return [v for v in SERVICES[name].get("volumes", ()) if v.startswith("secrets-")]


def test_every_process_of_the_mesh_is_there() -> None:
    assert MESH | ONE_SHOTS | {"pawl"} == OF_PAWL
    assert (SERVICES["scheduler"]["scale"], SERVICES["executor"]["scale"]) == (2, 2)


def test_only_the_gateway_is_published_and_here_alone_unless_said_otherwise() -> None:
    ports = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}

    assert ports == {"gateway": ["${PAWL_HTTP_ADDRESS:-127.0.0.1}:${PAWL_HTTP_PORT:-8080}:8080"]}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - OF_PAWL))
def test_servers_have_a_health_check_and_an_image_of_one_version(name: str) -> None:
    one = SERVICES[name]

    assert one["healthcheck"]["test"][0] == "CMD"
    assert re.fullmatch(r"[a-z/]+:[a-z0-9.-]*[0-9][a-z0-9.-]*", one["image"])


def test_processes_of_pawl_are_checked_by_the_image() -> None:
    checked = {name for name in OF_PAWL if "healthcheck" not in SERVICES[name]}

    assert checked == MESH
    assert "HEALTHCHECK" in FINAL_STAGE
    assert "libs.rpc.probe" in FINAL_STAGE


@pytest.mark.parametrize("name", sorted(OF_PAWL))
def test_processes_of_pawl_can_do_little(name: str) -> None:
    one = SERVICES[name]

    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert not one.get("privileged")
    assert ("user" in one) == (name in ONE_SHOTS)
    assert ("cap_add" in one) == (name in ONE_SHOTS)
    assert all("docker.sock" not in volume for volume in one.get("volumes", ()))


@pytest.mark.parametrize("name", sorted(MESH))
def test_each_process_sees_its_own_secrets_alone(name: str) -> None:
    assert secrets_of(name) == [f"secrets-{name}:/run/pawl:ro"]


@pytest.mark.parametrize("name", sorted(MESH))
def test_services_speak_mtls_to_one_another(name: str) -> None:
    environment = SERVICES[name]["environment"]

    for kind in ("CA", "CERT", "KEY"):
        assert environment[f"PAWL_TLS_{kind}_FILE"].startswith("/run/pawl/")


def test_no_secret_is_written_down() -> None:
    named = re.compile(r"(PASSWORD|SECRET|TOKEN|ACCESS_KEY|API_KEY|DATABASE_URL)(?!.*_FILE)")
    said = {
        f"{name}: {key}"
        for name, one in SERVICES.items()
        for key in one.get("environment", {})
        if named.search(key) and not key.endswith("_FILE")
    }

    assert said == set()
    assert not re.search(r"(?i)(password|secret|token)\s*=", DOCKERFILE)


def test_starts_are_ordered() -> None:
    for name in MESH - {"gateway"}:
        assert SERVICES[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"}
        }
    assert {c["condition"] for c in SERVICES["gateway"]["depends_on"].values()} == {
        "service_healthy"
    }
    assert set(SERVICES["migrate"]["depends_on"]) == {"postgres", "kafka", "s3"}


def test_scaled_services_have_nothing_that_is_there_once() -> None:
    for name in ("scheduler", "executor"):
        assert not {"container_name", "hostname", "ports"} & set(SERVICES[name])
        assert "PAWL_EXECUTOR_ID" not in SERVICES[name]["environment"]


def test_the_image_has_a_user_and_no_build_tools() -> None:
    assert "USER 65532:65532" in FINAL_STAGE
    assert not re.search(r"\b(apt-get|gcc|make|pip install)\b", FINAL_STAGE)
    assert not re.search(r"^# syntax=|--mount|<<", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("command", [["docker", "compose"], ["docker-compose"]])
def test_both_versions_of_compose_read_the_file(command: list[str]) -> None:
    words = " ".join(command)
    if shutil.which(command[0]) is None:
        pytest.skip(f"{words} is not installed")
    known = subprocess.run([*command, "version"], capture_output=True, check=False)
    if known.returncode != 0:
        pytest.skip(f"{words} is not installed")

    done = subprocess.run(
        [*command, "-f", str(COMPOSE), "config", "-q"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
