from __future__ import annotations

import pytest

from libs.bus.consumer_tables import consumer_tables
from libs.bus.statements import statements
from libs.bus.topics import ARTIFACT_EVENTS, DEAD_LETTERS, TASK_EVENTS, TOPICS


def test_statements_stand_in_the_schema() -> None:
    sql = statements("auth")

    assert "auth.bus_positions" in sql["advance_group"]
    assert not any("{schema}" in text for text in sql.values())


@pytest.mark.parametrize("name", ["", "Auth", "a b", "a;drop", 'a"', "a.b"])
def test_statements_refuse_what_is_no_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match="plain"):
        statements(name)
    with pytest.raises(ValueError, match="plain"):
        consumer_tables(name, "pawl_auth")
    with pytest.raises(ValueError, match="plain"):
        consumer_tables("auth", name)


def test_every_topic_is_kept_for_some_time() -> None:
    assert set(TOPICS) == {TASK_EVENTS, ARTIFACT_EVENTS, DEAD_LETTERS}
