from __future__ import annotations

from pathlib import Path

import pytest

from libs.process.env import ConfigError, Env


def test_every_mistake_is_named_in_one_message() -> None:
    env = Env(
        {
            "COUNT": "many",
            "RATIO": "nan",
            "SMALL": "-1",
            "LARGE": "11.5",
            "ON": "perhaps",
            "BUS": "pigeon",
            "AT": "localhost",
            "EMPTY": " ",
        }
    )
    env.text("MISSING")
    env.text("EMPTY")
    env.integer("COUNT")
    env.number("RATIO")
    env.integer("SMALL", minimum=0)
    env.number("LARGE", maximum=10)
    env.flag("ON")
    env.choice("BUS", {"postgres", "kafka"})
    env.address("AT")

    with pytest.raises(ConfigError) as raised:
        env.check()

    assert str(raised.value) == (
        "bad settings: MISSING is not set; EMPTY is not set; COUNT is 'many'; a whole number is "
        "allowed; RATIO is 'nan'; a finite number is allowed; SMALL is -1; the least allowed is 0; "
        "LARGE is 11.5; the most allowed is 10; ON is 'perhaps'; allowed are 1 and 0, true and "
        "false; BUS is 'pigeon'; allowed are kafka, postgres; AT is 'localhost'; host:port is "
        "allowed"
    )


def test_values_come_typed() -> None:
    env = Env(
        {"T": "x", "I": "-7", "N": "2.5", "F": "Yes", "P": "/a/b", "C": "kafka", "A": "[::1]:443"}
    )

    assert env.text("T") == "x"
    assert env.integer("I") == -7
    assert env.number("N") == 2.5
    assert env.flag("F") is True
    assert env.path("P") == Path("/a/b")
    assert env.choice("C", {"kafka"}) == "kafka"
    assert env.address("A") == "[::1]:443"
    assert env.optional_text("NOTHING") is None
    env.check()


def test_defaults_are_used_where_nothing_is_set() -> None:
    env = Env({"EMPTY": ""})

    assert env.text("EMPTY", "x") == "x"
    assert env.text("T", "") == ""
    assert env.integer("I", 0) == 0
    assert env.number("N", 0.5) == 0.5
    assert env.flag("F", False) is False
    assert env.flag("F", True) is True
    assert env.path("P", "~").is_absolute()
    assert env.choice("C", {"a"}, "a") == "a"
    assert env.address("A", "127.0.0.1:0") == "127.0.0.1:0"
    env.check()


@pytest.mark.parametrize("text", ["host:", ":80", "host:65536", "host:-1", "host:8o"])
def test_address_needs_host_and_port(text: str) -> None:
    env = Env({"A": text})
    env.address("A")

    with pytest.raises(ConfigError, match="A is"):
        env.check()


def test_secret_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("postgresql://x\n")

    env = Env({"DSN_FILE": str(tmp_path / "dsn"), "OTHER": "said"})

    assert (env.secret("DSN"), env.secret("OTHER")) == ("postgresql://x", "said")
    env.check()


def test_secret_names_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    given = {"A": "1", "A_FILE": "/a", "B_FILE": "/does/not/exist", "C_FILE": f"{tmp_path}/empty"}
    env = Env(given)
    for name in "ABCD":
        env.secret(name)

    with pytest.raises(ConfigError) as refused:
        env.check()

    said = str(refused.value)
    for words in ("A and A_FILE are both set", "B_FILE cannot be read", "empty file", "D is not"):
        assert words in said
