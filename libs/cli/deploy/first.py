"""Before anything runs: `python -m libs.cli.deploy.first` makes every secret and hands it out.

A second run makes nothing new, and what a killed one left half is made again.
"""

from __future__ import annotations

import os
import sys

from libs.cli.deploy.hand_out import hand_out
from libs.cli.deploy.installation import DeploySettings, holders_at_first
from libs.cli.up.service_keys import keys_are_whole
from libs.process.env import EXIT_BAD_CONFIG, ConfigError
from libs.rpc.certs import make_certificates
from libs.rpc.tokens import SERVICES, KeyRing


def prepare(settings: DeploySettings) -> None:
    """Make what is missing and hand it out. OSError when that fails."""
    settings.installation.create()
    with settings.installation.locked():
        kept = settings.installation.secrets
        if not keys_are_whole(kept, services=SERVICES):
            KeyRing.generate().write(kept)
        make_certificates(settings.tls)
        for holder in holders_at_first(settings):
            for name in hand_out(settings.place, holder):
                print(f"{holder.name}: {name}", flush=True)


def main() -> int:
    """Exit code 0, or 2 for settings that do not work."""
    try:
        prepare(DeploySettings.from_env(os.environ))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
