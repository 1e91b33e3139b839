"""Start the guest: `python3 -s -B DIRECTORY`, as process 1 of a sandbox."""

import sys
from importlib import import_module
from pathlib import Path

# The modules import one another as a package, here as on the host.
_here = Path(__file__).resolve().parent
sys.path[0] = str(_here.parent)
keeper = import_module(f"{_here.name}.keeper")
sys.path.pop(0)
sys.exit(keeper.main())
