"""What the scheduler counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

TASKS = Counter("pawl_tasks_total", "Tasks that entered a state, by state", ["state"])
CLAIMS = Counter("pawl_claims_total", "Claim statements, by whether they found work", ["found"])
REPORTS = Counter("pawl_reports_total", "Reports of executors, by verdict", ["verdict"])
REPORT_BATCH = Histogram(
    "pawl_report_batch_size",
    "Reports written by one statement",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
WAITING = Gauge("pawl_queue_waiting", "Tasks that wait for an executor")
STREAMS = Gauge("pawl_work_streams", "Open streams of executors")
SLOTS_FREE = Gauge("pawl_work_slots_free", "Free slots of the executors connected here")
LOST = Counter("pawl_executors_lost_total", "Boots of executors that were judged to be dead")
