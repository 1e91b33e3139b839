"""What code may try against the process that runs it and the one that keeps it."""

from __future__ import annotations

from tests.sandbox.attacks import Attack, refused

ENDS = [
    Attack(name="exit", code="import sys; sys.exit()"),
    Attack(name="exit-0", code="result = 1\nraise SystemExit(0)", found=1),
    Attack(
        name="exit-3",
        code="import sys\nsys.exit(3)",
        word="CODE_ERROR",
        type="SystemExit",
        found="3",
        line=2,
    ),
    Attack(name="hard-exit", code="import os; os._exit(0)", word="NO_RESULT"),
    Attack(name="hard-exit-5", code="import os; os._exit(5)", word="NO_RESULT"),
    Attack(name="abort", code="import os; os.abort()", word="CRASHED"),
    Attack(name="null-pointer", code="import ctypes; ctypes.string_at(0)", word="CRASHED"),
    Attack(
        name="stack",
        code="held = []\nfor _ in range(10 ** 6): held = [held]\n"
        "import sys; sys.setrecursionlimit(10 ** 9); repr(held)",
        word="CRASHED",
    ),
    Attack(
        name="kills-itself",
        code="import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        word="KILLED",
    ),
    Attack(
        name="ends-itself",
        code="import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        word="CRASHED",
    ),
    Attack(
        name="recursion",
        code="def f(): f()\nf()",
        word="CODE_ERROR",
        type="RecursionError",
        line=1,
    ),
    Attack(name="syntax", code="x = 1\ny = (", word="CODE_ERROR", type="SyntaxError", line=2),
    Attack(
        name="brackets-in-code",
        code="x = " + "(" * 10000,
        word="CODE_ERROR",
        type="SyntaxError",
        line=1,
    ),
    Attack(name="minus-in-code", code="x = " + "-" * 100_000 + "1", word="CODE_ERROR"),
    Attack(name="null-in-code", code="x = '\0'", word="CODE_ERROR"),
    Attack(name="surrogate-in-code", code="x = '\ud800'", word="CODE_ERROR"),
    Attack(name="no-code", code=""),
    Attack(name="interrupt", code="raise KeyboardInterrupt", word="CODE_ERROR", line=1),
    Attack(name="no-input", code="input()", word="CODE_ERROR", type="EOFError", line=1),
]

TAMPERING = [
    Attack(
        name="no-builtins", code="import builtins\nresult = 1\nbuiltins.__dict__.clear()", found=1
    ),
    Attack(
        name="no-builtins-and-raise",
        code="import builtins\nbuiltins.__dict__.clear()\nfoo",
        word="CODE_ERROR",
        type="NameError",
        line=3,
    ),
    Attack(
        name="no-json",
        code="import json\njson.dumps = json.JSONEncoder = json.encoder = None\nresult = [1]",
        found=[1],
    ),
    Attack(
        name="no-json-and-raise",
        code="import json\njson.dumps = json.JSONEncoder.encode = None\n1 / 0",
        word="CODE_ERROR",
        type="ZeroDivisionError",
        line=3,
    ),
    Attack(
        name="other-stdout",
        code="import io, sys\nsys.stdout = io.StringIO()\nprint(1); result = 1",
        found=1,
    ),
    Attack(name="closed-stdout", code="import sys\nsys.stdout.close(); result = 1", found=1),
    Attack(
        name="no-stdout",
        code="import sys\nsys.stdout = sys.stderr = None\n1 / 0",
        word="CODE_ERROR",
        type="ZeroDivisionError",
        line=3,
    ),
    Attack(name="all-closed", code="import os\nos.closerange(0, 1000)", word="NO_RESULT"),
    Attack(name="at-exit", code="import atexit\natexit.register(print, 'no')\nresult = 1", found=1),
    Attack(
        name="thread-that-stays",
        code="import threading, time\nresult = 1\n"
        "threading.Thread(target=time.sleep, args=(99,)).start()",
        found=1,
    ),
    Attack(
        name="finalizer",
        code="class A:\n  def __del__(self): raise ValueError\nresult = 1\na = A(); del a",
        found=1,
    ),
    Attack(
        name="trace-function",
        code="import sys\ndef f(*_): raise ValueError\nresult = 1\nsys.settrace(f)",
        found=1,
    ),
    Attack(
        name="alarm",
        code="import signal\nsignal.signal(signal.SIGALRM, lambda *_: 1 / 0)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0001)\nresult = [[]] * 50_000",
        word="",
    ),
    *(
        Attack(
            name=f"timer-of-{clock.lower()}",
            code="import signal\ndef late(*_): raise KeyError\n"
            f"signal.signal(signal.{number}, late)\nresult = [[0] * 9] * 9000\n"
            f"signal.setitimer(signal.ITIMER_{clock}, 0.01, 0.0001)",
        )
        for clock, number in (("PROF", "SIGPROF"), ("VIRTUAL", "SIGVTALRM"))
    ),
    Attack(
        name="all-signals",
        code="import signal\ndef late(*_): raise KeyError\nfor n in range(1, 65):\n"
        "  try: signal.signal(n, late)\n  except (OSError, ValueError): pass\nresult = 1",
        found=1,
    ),
    Attack(
        name="hook-that-refuses-all",
        code="import sys\nsys.addaudithook(lambda *_: 1 / 0)\nresult = 1",
        word="NO_RESULT",
    ),
    Attack(
        name="profile-function",
        code="import sys\ndef f(*_): raise KeyError\nsys.setprofile(f)",
        word="CODE_ERROR",
        type="KeyError",
    ),
    Attack(
        name="no-imports",
        code="import sys\nsys.modules.clear(); sys.meta_path.clear(); sys.path.clear()\nresult = 1",
        found=1,
    ),
    Attack(
        name="no-memory-for-the-report",
        code="import resource as r\nfor kind in (r.RLIMIT_AS, r.RLIMIT_DATA, r.RLIMIT_FSIZE):\n"
        "  r.setrlimit(kind, (0, 0))\nresult = 1",
        found=1,
    ),
    Attack(
        name="memory-of-the-report",
        code="import resource as r\nfor kind in (r.RLIMIT_AS, r.RLIMIT_DATA):\n"
        "  most = r.getrlimit(kind)[1]\n  r.setrlimit(kind, (most, most))\n"
        "held = []\nwhile True: held.append(bytearray(2 ** 20))",
        word="MEMORY_LIMIT",
        line=6,
    ),
    refused(
        "limits-raised",
        "import resource as r\nr.setrlimit(r.RLIMIT_CPU, (99, 99))",
        type="ValueError",
    ),
    Attack(
        name="no-descriptors",
        code="import os\nfor n in (0, 1, 2): os.close(n)\n1 / 0",
        word="CODE_ERROR",
        type="ZeroDivisionError",
        line=3,
    ),
    Attack(
        name="threads-that-print",
        code="import threading\ndef f():\n  while True: print('x' * 99)\n"
        "for _ in range(5): threading.Thread(target=f).start()\nthreading.Event().wait()",
        word="OUTPUT_TOO_LARGE",
    ),
    Attack(
        name="handler-of-faults",
        code="import faulthandler\nfaulthandler.enable()\nfaulthandler._sigsegv()",
        word="CRASHED",
    ),
    Attack(
        name="debugger",
        code="breakpoint()",
        word="CODE_ERROR",
        type="BdbQuit",
        line=1,
    ),
    Attack(
        name="text-of-exception-raises",
        code="class E(Exception):\n  def __str__(self): raise SystemExit(0)\nraise E",
        word="CODE_ERROR",
        type="E",
        line=3,
    ),
    Attack(
        name="exception-without-name",
        code="class M(type):\n  __name__ = property(lambda s: 1 / 0)\n"
        "class E(Exception, metaclass=M): pass\nraise E",
        word="CODE_ERROR",
        type="E",
        line=4,
    ),
    Attack(
        name="exceptions-in-a-ring",
        code="a, b = ValueError(1), ValueError(2)\na.__cause__, b.__cause__ = b, a\nraise a",
        word="CODE_ERROR",
        type="ValueError",
        line=3,
    ),
    Attack(
        name="endless-chain",
        code="e = None\nfor n in range(200_000):\n  f = ValueError(n); f.__context__ = e; e = f\n"
        "raise e",
        word="CODE_ERROR",
        line=4,
    ),
]

FORGERY = [
    Attack(
        name="own-report",
        code='import os\nos.write(63, b\'{"ok":true,"result":9}\')\nos._exit(0)',
        found=9,
    ),
    Attack(
        name="half-report",
        code="import os\nos.write(63, b'{\"ok\":tr')\nos._exit(0)",
        word="NO_RESULT",
    ),
    Attack(
        name="report-before-ours",
        code="import os\nos.write(63, b'{}')\nresult = 1",
        word="NO_RESULT",
    ),
    Attack(
        name="report-of-no-set-up",
        code="import os\nos.write(63, b'E')\nos._exit(0)",
        word="NO_RESULT",
    ),
    Attack(
        name="report-of-another-word",
        code='import os\nos.write(63, b\'{"ok":false,"code":"SANDBOX_ERROR"}\')\nos._exit(0)',
        word="NO_RESULT",
    ),
    Attack(
        name="report-with-nan",
        code='import os\nos.write(63, b\'{"ok":true,"result":NaN}\')\nos._exit(0)',
        word="NO_RESULT",
    ),
    Attack(
        name="deep-report",
        code='import os\nos.write(63, b\'{"ok":true,"result":\' + b"[" * 50_000)\nos._exit(0)',
        word="NO_RESULT",
    ),
    Attack(
        name="huge-number-in-report",
        code="import os\nos.write(63, b'{\"ok\":true,\"result\":' + b'9' * 5000 + b'}')\n"
        "os._exit(0)",
        word="NO_RESULT",
    ),
    Attack(
        name="number-that-is-none-in-report",
        code='import os\nos.write(63, b\'{"ok":true,"result":[1e999]}\')\nos._exit(0)',
        word="NO_RESULT",
    ),
    Attack(
        name="half-pair-in-report",
        code='import os\nos.write(63, b\'{"ok":true,"result":"\\\\ud800"}\')\nos._exit(0)',
        word="NO_RESULT",
    ),
    Attack(
        name="no-utf-8-in-report",
        code='import os\nos.write(63, b\'{"ok":true,"result":"\\xff"}\')\nos._exit(0)',
        word="NO_RESULT",
    ),
    Attack(
        name="report-with-more",
        code='import os\nos.write(63, b\'{"ok":true,"result":1,"v":9,"id":"2","stdout":"x"}\')\n'
        "os._exit(0)",
        found=1,
    ),
    Attack(
        name="report-of-odd-error",
        code='import os\nos.write(63, b\'{"ok":false,"code":"CODE_ERROR","error":[1]}\')\n'
        "os._exit(0)",
        word="NO_RESULT",
    ),
    Attack(
        name="report-of-no-word",
        code='import os\nos.write(63, b\'{"ok":false,"code":[]}\')\nos._exit(0)',
        word="NO_RESULT",
    ),
    Attack(
        name="report-and-crash",
        code='import os\nos.write(63, b\'{"ok":true,"result":1}\')\nos.abort()',
        word="CRASHED",
    ),
    Attack(
        name="report-by-a-thread",
        code="import os, threading\ndef f():\n  while True: os.write(63, b'[')\n"
        "threading.Thread(target=f).start()\nimport time; time.sleep(0.1); result = 1",
        word="NO_RESULT",
    ),
    Attack(
        name="frame-to-all-descriptors",
        code="import os\nfor n in range(3, 200):\n"
        "  try: os.write(n, b'\\0\\0\\0\\x02{}')\n  except OSError: pass\nresult = 1",
        word="NO_RESULT",
    ),
    Attack(
        name="report-that-does-not-wait",
        code="import os\nos.set_blocking(63, False)\nresult = 'x' * 200_000",
        found="x" * 200_000,
    ),
    Attack(name="no-report", code="import os\nos.close(63)\nresult = 1", word="NO_RESULT"),
    Attack(name="report-printed", code="import os\nos.dup2(1, 63)\nresult = 1", word="NO_RESULT"),
    Attack(
        name="print-into-report",
        code="import os\nos.dup2(63, 1)\nprint('x'); result = 1",
        word="NO_RESULT",
    ),
    refused("report-read", "import os; os.read(63, 9)", type="OSError", found="[Errno 9]"),
    refused("larger-pipe", "import fcntl; fcntl.fcntl(63, 1031, 2 ** 20)"),
    Attack(
        name="endless-report",
        code="import os\nwhile True: os.write(63, b'x' * 65536)",
        word="RESULT_TOO_LARGE",
    ),
    refused("stdout-of-keeper", "open('/proc/1/fd/1', 'wb')"),
    refused("memory-of-keeper", "open('/proc/1/mem', 'r+b')"),
    refused("environment-of-keeper", "open('/proc/1/environ')"),
    refused("root-of-keeper", "open('/proc/1/root/etc/hostname')"),
    refused("descriptors-of-keeper", "import os; os.listdir('/proc/1/fd')"),
    refused(
        "limits-of-keeper", "import resource\nresource.prlimit(1, resource.RLIMIT_CPU, (1, 1))"
    ),
    refused("priority-of-keeper", "import os; os.setpriority(os.PRIO_PROCESS, 1, 19)"),
    refused("kill-of-keeper", "import os; os.kill(1, 9)"),
    refused("interrupt-of-keeper", "import os; os.kill(1, 2)"),
    refused("kill-of-all", "import os; os.kill(-1, 9)"),
    refused("kill-of-group", "import os; os.kill(0, 9)"),
    refused("signal-by-descriptor", "import os\nos.close(os.pidfd_open(1))"),
]
