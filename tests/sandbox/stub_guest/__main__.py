"""A guest for tests of the docker backend: does what its one request says, by name."""

import json
import os
import pathlib
import platform
import struct
import sys
import threading
import time


def send(body: bytes) -> None:
    os.write(1, struct.pack(">I", len(body)) + body)


def read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data


def end_with_stdin() -> None:
    while os.read(0, 1 << 16):
        pass
    os._exit(9)


def look() -> dict[str, object]:
    status = pathlib.Path("/proc/self/status").read_text().splitlines()
    said = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    wanted = ("CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp", "Uid", "Gid")
    return {name: said[name] for name in wanted} | {
        "writable": [place for place in ("/", "/etc", "/sandbox", "/usr") if writable(place)],
        "tmp": next(
            line.split()[3]
            for line in pathlib.Path("/proc/mounts").read_text().splitlines()
            if line.split()[1] == "/tmp"
        ),
        "interfaces": names("/sys/class/net"),
        "shm": pathlib.Path("/dev/shm").exists(),
        "environ": dict(os.environ),
        "setuid": setuid_files(),
        "left": names("/tmp"),
        "host": os.uname().nodename,
    }


def setuid_files() -> list[str]:
    found = pathlib.Path("/usr").rglob("*")
    return [str(path) for path in found if path.lstat().st_mode & 0o6000 and path.is_file()]


def names(place: str) -> list[str]:
    return sorted(path.name for path in pathlib.Path(place).iterdir())


def writable(place: str) -> bool:
    try:
        pathlib.Path(place, "written").touch()
    except OSError:
        return False
    return True


def main() -> None:
    send(json.dumps({"ready": 1, "python": platform.python_version()}).encode())
    (size,) = struct.unpack(">I", read(4))
    body = read(size)
    request = json.loads(body)
    threading.Thread(target=end_with_stdin, daemon=True).start()
    match request["do"]:
        case "echo":
            send(body)
        case "look":
            pathlib.Path("/tmp/left").touch()
            send(json.dumps(look()).encode())
        case "exit":
            os._exit(request["code"])
        case "eat":
            held = []
            while True:
                held.append(bytearray(1 << 20))
        case "sleep":
            time.sleep(600)
        case "write":
            for piece in request["pieces"]:
                os.write(request.get("fd", 1), bytes.fromhex(piece) * request.get("times", 1))
        case "flood":
            while True:
                os.write(request["fd"], b"x" * 65536)


main()
