"""What running processes count of themselves."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable, Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from libs.cli.stack import Stack


def addresses_of(stack: Stack) -> tuple[str, ...]:
    """Where the processes of a stack show their metrics."""
    processes = [one for instances in stack.ready.services.values() for one in instances]
    return tuple(one.metrics_address for one in processes)


def samples(addresses: Iterable[str]) -> Iterator[Sample]:
    """All that is shown at these addresses, host:port."""
    for address in addresses:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            yield from family.samples


def total(addresses: Iterable[str], name: str, **labels: str) -> float:
    """The sum of a metric over all processes, of the samples that have these labels."""
    return sum(
        sample.value
        for sample in samples(addresses)
        if sample.name == name and labels.items() <= sample.labels.items()
    )
