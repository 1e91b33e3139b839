"""The services, each a process of its own that starts as `python -m services.<name>`."""

import os

# uvloop starts children with fork(). gRPC would begin threads of its own in each of them, and some
# crash there before the child has become another program. It reads this when it is imported.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
