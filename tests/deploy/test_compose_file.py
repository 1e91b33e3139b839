"""What docker-compose.yml and the Dockerfile promise, read from them without an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from libs.cli.up.services import MODULES
from libs.db.roles import SERVICES as WITH_DATABASE
from services.executor.tools.child_process import MOST_AT_ONCE
from services.executor.tools.table_bounds import MEMORY_BYTES
from services.executor.tools.text_extract import LIMITS as DOCUMENT_LIMITS

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
COMMAND_OF = MODULES | {"sandbox": "services.executor.companion"}
OURS = tuple(COMMAND_OF)
SERVERS = ("postgres", "kafka", "s3")
ONE_SHOT = ("first", "migrate")
COMMANDS = ("pawl",)
LONG_RUNNING = (*OURS, *SERVERS)
SECRET_NAME = re.compile(r"PASSWORD|SECRET|_KEY$|_KEY_|TOKEN|DATABASE_URL")


def mounts(name: str) -> dict[str, str]:
    """Where each volume of a service is, with `:ro` if it cannot be written."""
    volumes = (volume for volume in SERVICES[name]["volumes"] if isinstance(volume, str))
    parts = (volume.partition(":") for volume in volumes)
    return {volume: place for volume, _, place in parts}


def test_every_service_is_one_of_a_known_kind() -> None:
    assert set(SERVICES) == {*LONG_RUNNING, *ONE_SHOT, *COMMANDS}


def test_only_the_gateway_is_published_and_on_loopback_unless_asked() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {
        "gateway": ["${PAWL_HTTP_ADDRESS:-127.0.0.1}:${PAWL_HTTP_PORT:-8080}:8080"]
    }


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_can_gain_rights(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "devices"} & service.keys()


def test_only_the_sandbox_reaches_the_engine() -> None:
    reaching = {name for name, service in SERVICES.items() if "docker.sock" in str(service)}
    bound = {
        name: [volume["target"] for volume in service["volumes"] if not isinstance(volume, str)]
        for name, service in SERVICES.items()
        if "volumes" in service
    }

    assert reaching == {"sandbox"}
    assert {name: targets for name, targets in bound.items() if targets} == {
        "sandbox": ["/var/run/docker.sock"]
    }


def test_only_executors_are_told_where_the_sandbox_is() -> None:
    told = {
        name
        for name, service in SERVICES.items()
        if "PAWL_SANDBOX_TARGET" in service.get("environment", {})
    }

    assert told == {"executor"}
    assert SERVICES["executor"]["environment"]["PAWL_SANDBOX"] == "docker"


@pytest.mark.parametrize("name", OURS)
def test_services_hold_no_right_at_all(name: str) -> None:
    assert not {"cap_add", "user"} & SERVICES[name].keys()


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "kafka"])
def test_roots_are_read_only(name: str) -> None:
    # Kafka's image writes its settings beside its programs when it starts.
    assert SERVICES[name]["read_only"] is True
    assert "/tmp" in SERVICES[name]["tmpfs"]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_what_runs_for_long_is_restarted_checked_and_bounded(name: str) -> None:
    service = SERVICES[name]

    assert service["restart"] == "unless-stopped"
    assert "mem_limit" in service
    # Ours have the check of the image.
    assert ("healthcheck" in service) == (name in SERVERS)


def test_an_executor_has_room_for_the_processes_of_its_tools() -> None:
    assert SERVICES["executor"]["mem_limit"] == "3g"

    assert MOST_AT_ONCE * DOCUMENT_LIMITS.memory_bytes + 512 * 2**20 <= 3 * 2**30
    # The rest is Python and what the engine takes beside that.
    assert DOCUMENT_LIMITS.memory_bytes - 256 * 2**20 >= MEMORY_BYTES


def test_the_image_checks_the_health_of_its_process() -> None:
    assert re.search(r"^HEALTHCHECK .*CMD \[.*\"libs\.rpc\.probe\"\]$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("name", OURS)
def test_each_service_is_a_command_of_the_one_image(name: str) -> None:
    assert SERVICES[name]["image"] == "${PAWL_IMAGE:-pawl:local}"
    assert SERVICES[name]["command"] == ["python", "-P", "-m", COMMAND_OF[name]]
    assert SERVICES[name]["init"] is True


@pytest.mark.parametrize("name", OURS)
def test_each_service_sees_its_own_secrets_alone(name: str) -> None:
    assert mounts(name) == {f"secrets-{name}": "/run/pawl:ro"}


def test_servers_see_their_own_secrets_alone() -> None:
    secret = {
        name: {v: p for v, p in mounts(name).items() if not v.endswith("-data")} for name in SERVERS
    }

    assert secret == {
        "postgres": {"secrets-postgres": "/run/pawl:ro"},
        "s3": {"secrets-s3": "/run/pawl:ro"},
        "kafka": {},
    }


def test_only_the_one_shots_see_the_installation() -> None:
    seen = {name for name in SERVICES if "installation" in mounts(name)}

    assert seen == set(ONE_SHOT)


def test_every_volume_is_named_once_and_used() -> None:
    used = {volume for name in SERVICES for volume in mounts(name)}

    assert used == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_stands_in_the_file(name: str) -> None:
    environment = SERVICES[name].get("environment", {})
    secret = {key: value for key, value in environment.items() if SECRET_NAME.search(key)}

    assert all(key.endswith("_FILE") for key in secret), secret
    assert all(str(value).startswith(("/run/pawl/", "/secrets/")) for value in secret.values())


@pytest.mark.parametrize("name", OURS)
def test_services_speak_mtls(name: str) -> None:
    environment = SERVICES[name]["environment"]

    assert environment["PAWL_TLS_CA_FILE"] == "/run/pawl/ca.crt"
    assert environment["PAWL_TLS_CERT_FILE"] == "/run/pawl/tls.crt"
    assert environment["PAWL_TLS_KEY_FILE"] == "/run/pawl/tls.key"


@pytest.mark.parametrize("name", OURS)
def test_only_services_with_a_schema_are_told_a_database(name: str) -> None:
    told = {key for key in SERVICES[name]["environment"] if "DATABASE_URL" in key}

    assert told == ({f"PAWL_{name.upper()}_DATABASE_URL_FILE"} if name in WITH_DATABASE else set())


@pytest.mark.parametrize("name", ["scheduler", "executor"])
def test_what_there_are_several_of_can_be_scaled(name: str) -> None:
    service = SERVICES[name]

    assert service["scale"] == 2
    assert not {"container_name", "hostname", "ports"} & service.keys()
    # Each is then called by the name of its container.
    assert "PAWL_EXECUTOR_ID" not in service["environment"]


@pytest.mark.parametrize("name", OURS)
def test_services_start_when_everything_is_prepared(name: str) -> None:
    waits = SERVICES[name]["depends_on"]

    if name == "gateway":
        assert set(waits) == {"auth", "planner", "scheduler", "artifact"}
        assert all(wait == {"condition": "service_healthy"} for wait in waits.values())
    else:
        assert waits == {"migrate": {"condition": "service_completed_successfully"}}


def test_migrate_waits_for_its_servers() -> None:
    assert SERVICES["migrate"]["depends_on"] == {
        name: {"condition": "service_healthy"} for name in SERVERS
    }


def test_kafka_makes_no_topic_by_itself_and_listens_inside_alone() -> None:
    environment = SERVICES["kafka"]["environment"]

    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert environment["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://kafka:19092"


def test_images_are_named_with_their_version() -> None:
    images = {SERVICES[name]["image"] for name in SERVERS}
    images |= {line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("FROM ")}

    assert all(re.fullmatch(r"[a-z/]+:[a-z]*[0-9][\w.-]*", image) for image in images), images


def test_the_image_is_made_of_what_any_builder_understands() -> None:
    assert not re.search(r"--mount|<<|^# *syntax=", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["65532:65532"]


def test_nothing_that_installs_or_compiles_is_in_the_last_stage() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]

    assert not re.search(r"pip install|apt-get|gcc|build-essential", last)
    for gone in ("pip", "setuptools", "wheel", "ensurepip"):
        assert re.search(rf"/{gone}\b", last)


def test_the_context_of_the_build_is_chosen_file_by_file() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()

    assert lines[0] == "*"
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert kept == {
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
        "LICENSE",
        "requirements",
        "libs",
        "services",
        "gateway",
        "pawl",
    }


def test_the_script_sets_nothing_that_the_file_reads() -> None:
    # What a script exports wins over .env, and compose without the script would then differ.
    script = (ROOT / "deploy" / "compose.sh").read_text(encoding="utf-8")

    assert not re.search(r"^\s*export |PAWL_[A-Z_]+=", script, re.MULTILINE)


def test_the_same_settings_reach_every_command_from_the_environment_or_with_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    asked = re.findall(r"(?<!\$)\$\{([^}]*)\}", text)

    assert asked
    assert all(":-" in name for name in asked), asked


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("scheduler", "PAWL_KAFKA_BOOTSTRAP"),
        ("scheduler", "PAWL_KAFKA_PREFIX"),
        ("artifact", "PAWL_BLOBS"),
    ],
)
def test_other_servers_are_named_in_the_environment(name: str, setting: str) -> None:
    for told in (name, "migrate"):
        assert SERVICES[told]["environment"][setting].startswith(f"${{{setting}:-")


def test_what_tools_may_reach_is_told_to_executors_alone() -> None:
    told = {
        name: service["environment"]["PAWL_EGRESS_ALLOW"]
        for name, service in SERVICES.items()
        if "PAWL_EGRESS_ALLOW" in service.get("environment", {})
    }

    assert told == {"executor": "${PAWL_EGRESS_ALLOW:-}"}
