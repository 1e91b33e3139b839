"""A service's refusals in the API's own names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from libs.core.errors import PawlError


@contextmanager
def reworded(names: Mapping[str, str]) -> Iterator[None]:
    """Give a refusal from within the block the API's names of fields, by the service's."""
    try:
        yield
    except PawlError as error:
        errors = [replace(e, field=names.get(e.field, e.field)) for e in error.errors]
        message = error.message
        for theirs, ours in names.items():
            message = re.sub(rf"\b{theirs}\b", ours, message)
        raise error.reworded(message, errors) from error
