"""What code may try, and how each attempt has to end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """`word` is the answer's code, "" for an end that is well; `type` that of the exception.

    `found` is a part of its message, or the whole result. `line` is where it must be told to be.
    """

    name: str
    code: str
    word: str = ""
    type: str = ""
    found: Any = None
    line: int | None = None
    limits: dict[str, Any] = field(default_factory=dict)


def refused(name: str, code: str, *, type: str = "PermissionError", found: str = "") -> Attack:  # noqa: A002
    """Something that one call is refused for, in the last line of the code."""
    line = code.count("\n") + 1
    return Attack(name=name, code=code, word="CODE_ERROR", type=type, found=found, line=line)


def unreachable(name: str, code: str) -> Attack:
    """Something that is refused or not there, whichever the backend has for it."""
    return refused(name, code, type="", found="[Errno ")


def masked(path: str) -> Attack:
    """A file of the kernel that is refused, or has nothing in it."""
    code = f"try:\n  result = len(open({path!r}, 'rb').read(64))\nexcept OSError:\n  result = 0"
    return Attack(name=f"file-{path.rpartition('/')[2]}", code=code, found=0)


_SHORT = {"wall_seconds": 0.5}
# On a machine with much to do, a second of CPU time takes a while.
_ONE_SECOND = {"cpu_seconds": 1, "wall_seconds": 25.0}
_SMALL_FILES = {"file_bytes": 100_000}

ENDLESS = [
    Attack(name="loop", code="while True: pass", word="WALL", limits=_SHORT),
    Attack(name="loop-of-cpu", code="while True: pass", word="CPU", limits=_ONE_SECOND),
    Attack(
        name="loop-that-ignores-sigxcpu",
        code="import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        word="CPU",
        limits=_ONE_SECOND,
    ),
    Attack(name="sleep", code="import time; time.sleep(99)", word="WALL", limits=_SHORT),
    Attack(
        name="regular-expression",
        code="import re; re.match('(a+)+$', 'a' * 40 + 'b')",
        word="WALL",
        limits=_SHORT,
    ),
    Attack(name="big-power", code="9 ** 9 ** 9", word="WALL", limits=_SHORT),
    Attack(
        name="stopped",
        code="import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        word="WALL",
        limits=_SHORT,
    ),
    Attack(
        name="endless-text-of-exception",
        code="class E(Exception):\n  def __str__(self):\n    while True: pass\nraise E",
        word="WALL",
        limits=_SHORT,
    ),
    Attack(
        name="endless-unlock",
        code="import threading\nlock = threading.Lock()\nlock.acquire(); lock.acquire()",
        word="WALL",
        limits=_SHORT,
    ),
    Attack(
        name="signals-ignored",
        code="import signal\nfor n in range(1, 65):\n  try: signal.signal(n, signal.SIG_IGN)\n"
        "  except (OSError, ValueError): pass\nwhile True: pass",
        word="WALL",
        limits=_SHORT,
    ),
]

MEMORY = [
    Attack(name="one-block", code="held = bytearray(10 ** 9)", word="MEMORY_LIMIT", line=1),
    Attack(
        name="blocks",
        code="held = []\nwhile True: held.append(bytearray(2 ** 20))",
        word="MEMORY_LIMIT",
        line=2,
    ),
    Attack(
        name="small-objects",
        code="held = []\nwhile True: held.append([])",
        word="MEMORY_LIMIT",
        line=2,
    ),
    Attack(name="long-list", code="import os\nheld = [0] * 10 ** 9", word="MEMORY_LIMIT", line=2),
    Attack(name="text", code="'a' * 10 ** 10", word="MEMORY_LIMIT", line=1),
    Attack(
        name="shared-mapping",
        code="import mmap\nheld = [mmap.mmap(-1, 10 ** 8) for _ in range(9)]",
        word="MEMORY_LIMIT",
        type="OSError",
        line=2,
    ),
    Attack(
        name="private-mapping",
        code="import mmap\nmmap.mmap(-1, 10 ** 9, flags=mmap.MAP_PRIVATE)",
        word="MEMORY_LIMIT",
        type="OSError",
        line=2,
    ),
    Attack(
        name="compressed-bomb",
        code="import zlib\nheld = zlib.compress(bytes(5 * 10 ** 7))\n"
        "held = [zlib.decompress(held) for _ in range(9)]",
        word="MEMORY_LIMIT",
        line=3,
    ),
    Attack(
        name="memory-caught-and-again",
        code="held = []\nwhile True:\n  try:\n    held.append(bytearray(2 ** 16))\n"
        "  except MemoryError:\n    raise",
        word="MEMORY_LIMIT",
        line=4,
    ),
    Attack(
        name="compressed-file",
        code="import io, zipfile\nheld = io.BytesIO()\n"
        "with zipfile.ZipFile(held, 'w', 8, compresslevel=1) as z:\n"
        "  with z.open('a', 'w') as f:\n    for _ in range(50): f.write(bytes(4 * 10 ** 6))\n"
        "zipfile.ZipFile(held).read('a')",
        word="MEMORY_LIMIT",
        line=6,
    ),
    Attack(name="format", code="'{:>99999999999}'.format(1)", word="MEMORY_LIMIT", line=1),
    Attack(
        name="rings-without-collection",
        code="import gc\ngc.disable()\nwhile True:\n  x = [bytearray(10 ** 6)]; x.append(x)",
        word="MEMORY_LIMIT",
        line=4,
    ),
    Attack(
        name="result-as-large-as-memory",
        code="result = 'a' * (150 * 2 ** 20)",
        word="RESULT_TOO_LARGE",
    ),
]

OUTPUT = [
    Attack(name="print", code="while True: print('x' * 1000)", word="OUTPUT_TOO_LARGE"),
    Attack(
        name="stderr",
        code="import sys\nwhile True: sys.stderr.write('e' * 1000)",
        word="OUTPUT_TOO_LARGE",
    ),
    Attack(
        name="bytes",
        code="import os\nwhile True: os.write(1, b'x' * 65536)",
        word="OUTPUT_TOO_LARGE",
    ),
    Attack(
        name="one-byte-too-many",
        code="print('x' * 131_072, end='')\nprint('x', end='')",
        word="OUTPUT_TOO_LARGE",
    ),
    Attack(name="no-byte-too-many", code="print('x' * 131_072, end='')"),
    Attack(name="no-byte-too-many-of-two", code="print('é' * 65536, end='')"),
    Attack(
        name="half-a-character-too-many",
        code="print('x' + 'é' * 65536, end='')",
        word="OUTPUT_TOO_LARGE",
    ),
    Attack(
        name="bytes-of-no-text", code="import os\nfor _ in range(4): os.write(2, b'\\xff' * 32768)"
    ),
    Attack(
        name="longest-answer",
        code="import os\nfor n in (1, 2) * 4: os.write(n, b'\\1' * 32768)\nresult = '\\1' * 43_000",
        found="\1" * 43_000,
    ),
    Attack(name="brackets", code="print('[' * 60000)"),
    Attack(name="result", code="result = 'a' * 10 ** 6", word="RESULT_TOO_LARGE"),
    Attack(
        name="result-of-small-things",
        code="result = [[]] * 10 ** 6",
        word="RESULT_TOO_LARGE",
    ),
    Attack(
        name="message",
        code="raise ValueError('x' * 10 ** 7)",
        word="CODE_ERROR",
        type="ValueError",
        found="x" * 100,
    ),
]

FILES = [
    Attack(
        name="one-large-file",
        code="with open('/tmp/x', 'wb', buffering=0) as f:\n  while True: f.write(bytes(65536))",
        word="FILE_LIMIT",
        type="OSError",
        found="File too large",
        line=2,
        limits=_SMALL_FILES,
    ),
    Attack(
        name="many-large-files",
        code="for n in range(9): open(f'/tmp/{n}', 'wb').write(bytes(4_000_000))",
        word="FILE_LIMIT",
        type="OSError",
        found="No space left",
    ),
    Attack(
        name="many-files",
        code="for n in range(10 ** 7): open(f'/tmp/{n}', 'w').close()",
        word="FILE_LIMIT",
    ),
    Attack(
        name="many-directories",
        code="import os\nfor n in range(10 ** 7): os.mkdir(f'/tmp/{n}')",
        word="FILE_LIMIT",
    ),
    Attack(
        name="many-links",
        code="import os\nopen('/tmp/a', 'w').close()\n"
        "for n in range(10 ** 7): os.link('/tmp/a', f'/tmp/{n}')",
        word="FILE_LIMIT",
    ),
    Attack(
        name="signal-of-file-size",
        code="import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "with open('/tmp/x', 'wb') as f: f.write(bytes(10 ** 6))",
        word="FILE_LIMIT",
        limits=_SMALL_FILES,
    ),
    *(
        Attack(
            name=f"large-by-{name}",
            code=f"import os\nf = os.open('/tmp/x', os.O_RDWR | os.O_CREAT)\n{call}",
            word="FILE_LIMIT",
            type="OSError",
            line=3,
        )
        for name, call in {
            "truncation": "os.truncate(f, 10 ** 9)",
            "a-hole": "os.pwrite(f, b'x', 10 ** 12)",
            "allocation": "os.posix_fallocate(f, 0, 10 ** 9)",
        }.items()
    ),
    Attack(
        name="files-without-names",
        code="import os\nheld = []\nwhile True:\n  held.append(open('/tmp/x', 'wb', 0))\n"
        "  os.unlink('/tmp/x'); held[-1].write(bytes(4 * 10 ** 6))",
        word="FILE_LIMIT",
        type="OSError",
        line=5,
    ),
    Attack(
        name="files-by-memory",
        code="import mmap\nheld = []\nfor n in range(5):\n  f = open(f'/tmp/{n}', 'w+b')\n"
        "  f.truncate(8 * 10 ** 6); held.append(mmap.mmap(f.fileno(), 0))\n"
        "  held[-1][:] = bytes(8 * 10 ** 6)",
        word="CRASHED",
    ),
    Attack(
        name="deep-directories",
        code="import os\nwhile True: os.mkdir('d'); os.chdir('d')",
        word="FILE_LIMIT",
    ),
    unreachable("open-files", "held = []\nwhile True: held.append(open('/dev/null'))"),
    refused("fifo", "import os; os.mkfifo('/tmp/f')"),
    refused("device", "import os, stat; os.mknod('/tmp/d', stat.S_IFBLK | 0o600, 2049)"),
    Attack(
        name="odd-names",
        code="import os\nfor n in ('a' * 255, '\\n', '\\udcff'): open('/tmp/' + n, 'w').close()\n"
        "os.symlink('/proc/1', '/tmp/link'); os.symlink('loop', '/tmp/loop')\n"
        "result = len(os.listdir('/tmp'))",
        found=5,
    ),
    Attack(
        name="log-of-no-use",
        code="import syslog; syslog.syslog('x'); result = 1",
        found=1,
    ),
]
