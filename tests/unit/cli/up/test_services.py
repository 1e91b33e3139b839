from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from libs.cli.up.data_dir import DataDir
from libs.cli.up.services import Installation, Instance, instance_names, target_of

INSTANCES = tuple(
    Instance(service=service, number=number, port=1000 + place, metrics_port=2000 + place)
    for place, (service, number) in enumerate(instance_names(executors=2, schedulers=2))
)
# auth 1000, planner 1001, scheduler 1002, 1003, executor 1004, 1005, artifact 1006, gateway 1007


def instance(name: str) -> Instance:
    return next(one for one in INSTANCES if one.name == name)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    data_dir = DataDir(path=tmp_path)
    data_dir.secrets.mkdir()
    for service in ("auth", "planner", "scheduler", "artifact"):
        (data_dir.secrets / f"db_{service}_password").write_text(f"{service}-pw\n")
    return Installation(
        data_dir=data_dir,
        owner_dsn="postgresql://owner:own@db/pawl",
        environ={
            "PATH": "/bin",
            "PAWL_DATABASE_URL": "postgresql://owner:own@db/pawl",
            "PAWL_AUTH_DATABASE_URL": "postgresql://wrong",
            "PAWL_API_KEY": "pawl_live_x",
            "PAWL_VERSION_LABEL": "prod-1",
        },
    )


def test_every_service_gets_its_own_database_and_never_the_owners(
    installation: Installation,
) -> None:
    for one in INSTANCES:
        env = installation.env(one, INSTANCES)
        addresses = {name: env[name] for name in env if name.endswith("DATABASE_URL")}
        if one.service in {"executor", "gateway"}:
            assert addresses == {}
        else:
            assert addresses == {
                f"PAWL_{one.service.upper()}_DATABASE_URL": (
                    f"postgresql://pawl_{one.service}:{one.service}-pw@db/pawl"
                )
            }
        assert "PAWL_API_KEY" not in env
        assert env["PAWL_VERSION_LABEL"] == "prod-1"
        assert env["PATH"] == "/bin"


def test_blobs_are_kept_in_the_data_directory_unless_their_owner_says_where(
    installation: Installation,
) -> None:
    own = {
        "PAWL_BLOBS": "s3://pawl",
        "PAWL_BLOBS_ACCESS_KEY": "key",
        "PAWL_BLOBS_SECRET_KEY_FILE": "/run/secrets/blobs",
        "AWS_SESSION_TOKEN": "token",
    }
    elsewhere = replace(installation, environ={**installation.environ, **own})

    for one in INSTANCES:
        by_default = installation.env(one, INSTANCES)
        given = elsewhere.env(one, INSTANCES)
        at_artifact = one.service == "artifact"
        blobs = (installation.data_dir.path / "blobs").as_uri()
        assert by_default.get("PAWL_BLOBS") == (blobs if at_artifact else None)
        assert {name: given[name] for name in given if "BLOBS" in name or "AWS" in name} == (
            own if at_artifact else {}
        )


def test_price_table_is_found_from_wherever_a_process_runs(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    priced = replace(installation, environ={**installation.environ, "PAWL_PRICES": "p.toml"})

    for one in INSTANCES:
        assert "PAWL_PRICES" not in installation.env(one, INSTANCES)
        assert priced.env(one, INSTANCES)["PAWL_PRICES"] == str(tmp_path / "p.toml")


def test_environment_says_where_to_listen_and_whom_to_call(installation: Installation) -> None:
    executor = installation.env(instance("executor-1"), INSTANCES)
    gateway = installation.env(instance("gateway-1"), INSTANCES)

    assert executor["PAWL_LISTEN"] == "127.0.0.1:1004"
    assert executor["PAWL_METRICS_LISTEN"] == "127.0.0.1:2004"
    assert executor["PAWL_EXECUTOR_ID"] == "executor-1"
    assert executor["PAWL_EXECUTOR_SLOTS"] == "32"
    assert executor["PAWL_AUTH_TARGET"] == "127.0.0.1:1000"
    assert executor["PAWL_SERVICE_KEY_FILE"].endswith("/secrets/service_executor.jwk")
    assert gateway["PAWL_HTTP_LISTEN"] == "127.0.0.1:1007"
    assert "PAWL_LISTEN" not in gateway


def test_several_schedulers_are_spread_over_their_callers() -> None:
    assert target_of("scheduler", INSTANCES, first=0) == "ipv4:127.0.0.1:1002,127.0.0.1:1003"
    assert target_of("scheduler", INSTANCES, first=1) == "ipv4:127.0.0.1:1003,127.0.0.1:1002"
    assert target_of("scheduler", INSTANCES, first=2) == "ipv4:127.0.0.1:1002,127.0.0.1:1003"


def test_every_executor_begins_with_a_scheduler_of_its_own(installation: Installation) -> None:
    names = instance_names(executors=3, schedulers=3)
    instances = tuple(
        Instance(service=service, number=number, port=1000 + place, metrics_port=2000 + place)
        for place, (service, number) in enumerate(names)
    )

    targets = [
        installation.env(one, instances)["PAWL_SCHEDULER_TARGET"].removeprefix("ipv4:").split(",")
        for one in instances
        if one.service == "executor"
    ]

    assert len({target[0] for target in targets}) == 3
    assert all(len(set(target)) == 3 for target in targets)


def test_log_of_the_first_instance_has_the_services_name(tmp_path: Path) -> None:
    data_dir = DataDir(path=tmp_path)

    assert instance("executor-1").log_path(data_dir) == tmp_path / "logs" / "executor.log"
    assert instance("executor-2").log_path(data_dir) == tmp_path / "logs" / "executor-2.log"
