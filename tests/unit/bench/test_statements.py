"""Counting statements and transactions in a server's log."""

from __future__ import annotations

from bench.statements import _STATEMENT, _sums

LOG = b"""\
2026-05-01 12:00:00.000 UTC [7] LOG:  duration: 0.076 ms  bind _pg3_6: SELECT 1
2026-05-01 12:00:00.001 UTC [7] LOG:  duration: 0.012 ms  execute _pg3_6: SELECT 1
2026-05-01 12:00:00.002 UTC [7] LOG:  duration: 0.012 ms  statement: BEGIN
2026-05-01 12:00:00.003 UTC [8] LOG:  duration: 0.012 ms  execute _pg3_1: SELECT pg_notify($1, $2)
2026-05-01 12:00:00.004 UTC [7] LOG:  duration: 0.012 ms  execute _pg3_2: WITH x AS (
\tSELECT 1) SELECT 2
2026-05-01 12:00:00.005 UTC [7] LOG:  duration: 1.002 ms  statement: COMMIT
"""


def test_statements_of_a_block_are_one_transaction() -> None:
    counted = _sums(_STATEMENT.findall(LOG), seconds=1.0)

    assert (counted.statements, counted.transactions, counted.notifications) == (5, 3, 1)
