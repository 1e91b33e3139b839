"""The client that commands ask with, of the server that is to be found."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from libs.cli.client import Client


def connect() -> Client:
    """A client of the server that PAWL_URL names, else of the running `pawl up`. Unreachable."""
    from libs.cli.client import Client
    from libs.cli.ready import find_server
    from libs.cli.up.data_dir import default_data_dir

    return Client(find_server(os.environ, default_data_dir(os.environ)))
