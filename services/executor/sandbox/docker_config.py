"""What a container of the sandbox is: one configuration, of which no caller decides anything."""

from __future__ import annotations

from typing import Any

from services.executor.sandbox.model import MIB

USER = "65534:65534"
MEMORY_BYTES = 256 * MIB
PIDS = 64
TMP_BYTES = 16 * MIB
TMP_FILES = 1024

INSTALLATION_LABEL = "dev.pawl.sandbox.installation"
EXECUTOR_LABEL = "dev.pawl.sandbox.executor"
BOOT_LABEL = "dev.pawl.sandbox.boot"

Labels = dict[str, str]


def container_config(image_id: str, *, labels: Labels, runtime: str) -> dict[str, Any]:
    """The body of the engine's POST /containers/create. `runtime` "" is the engine's default.

    StdinOnce: when the connection of its owner ends, the guest's stdin does, and it ends by itself.
    """
    return {
        "Image": image_id,
        "Labels": labels,
        "Hostname": "sandbox",
        "User": USER,
        "WorkingDir": "/tmp",  # noqa: S108 - inside
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "NetworkDisabled": True,
        # An engine that ends or starts again is not to wait for it.
        "StopSignal": "SIGKILL",
        "HostConfig": _host_config(runtime),
    }


def _host_config(runtime: str) -> dict[str, Any]:
    tmp = f"rw,noexec,nosuid,nodev,size={TMP_BYTES},nr_inodes={TMP_FILES},mode=1777"
    return {
        "Runtime": runtime,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": tmp},  # noqa: S108 - inside
        "NetworkMode": "none",
        "IpcMode": "none",
        "CgroupnsMode": "private",
        "PidsLimit": PIDS,
        "Memory": MEMORY_BYTES,
        # With the same bound for both there is no swap.
        "MemorySwap": MEMORY_BYTES,
        "NanoCpus": 10**9,
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": 256, "Hard": 256},
        ],
        # The default writes what a loop prints to the host's disk, without end.
        "LogConfig": {"Type": "none", "Config": {}},
        "RestartPolicy": {"Name": "no"},
        # How it ended is read from what it leaves; it is removed after that.
        "AutoRemove": False,
    }
