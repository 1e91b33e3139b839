"""What a service that consumes events adds to its schema. Frozen: migrations ran with it."""

from __future__ import annotations

import re

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

_TABLES = """
CREATE TABLE {schema}.bus_positions (
  topic text NOT NULL,
  group_name text NOT NULL,
  position bigint NOT NULL,
  PRIMARY KEY (topic, group_name),
  CONSTRAINT bus_positions_position_not_negative CHECK (position >= 0)
) WITH (fillfactor = 50);

CREATE TABLE {schema}.bus_seen (
  topic text NOT NULL,
  group_name text NOT NULL,
  key uuid NOT NULL,
  last_seq integer NOT NULL,
  previous_seq integer NOT NULL DEFAULT 0,
  seen_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (topic, group_name, key),
  CONSTRAINT bus_seen_seq_only_grows CHECK (last_seq >= previous_seq AND previous_seq >= 0)
) WITH (fillfactor = 80);

COMMENT ON TABLE {schema}.bus_positions IS 'How far each consumer group has read each topic.';
COMMENT ON TABLE {schema}.bus_seen IS 'The last sequence handled of each key.';

GRANT SELECT, INSERT, UPDATE ON {schema}.bus_positions TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.bus_seen TO {role};
"""

_ASIDE = """
CREATE TABLE {schema}.bus_aside (
  topic text NOT NULL,
  group_name text NOT NULL,
  key uuid NOT NULL,
  seq integer NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (topic, group_name, key, seq)
);

COMMENT ON TABLE {schema}.bus_aside IS
  'Events that were put aside as dead letters and may therefore come, and be handled, once more.';

GRANT SELECT, INSERT, DELETE ON {schema}.bus_aside TO {role};
"""


def consumer_tables(schema: str, role: str) -> str:
    """The statements that make `bus_positions` and `bus_seen` in `schema` for `role`.

    Call it once in a migration: `op.execute(consumer_tables("auth", "pawl_auth"))`. ValueError for
    names that would need quoting.
    """
    return _filled(_TABLES, schema=schema, role=role)


def aside_table(schema: str, role: str) -> str:
    """The statements that make `bus_aside` beside the `consumer_tables` of `schema`."""
    return _filled(_ASIDE, schema=schema, role=role)


def _filled(text: str, *, schema: str, role: str) -> str:
    for name in (schema, role):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no plain lower-case name")
    return text.format(schema=schema, role=role)
