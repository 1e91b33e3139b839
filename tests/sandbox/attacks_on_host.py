"""What code may try against the host: processes, network, files, kernel."""

from __future__ import annotations

from tests.sandbox.attacks import Attack, masked, refused, unreachable

PROCESSES = [
    refused("fork", "import os; os.fork()"),
    refused("double-fork", "import os\nif os.fork() == 0: os.setsid()"),
    refused("fork-bomb", "import os\nwhile True: os.fork()"),
    refused("execute", "import os; os.execv('/bin/ls', ['ls'])"),
    refused("subprocess", "import subprocess; subprocess.run(['ls'])"),
    refused("spawn", "import os; os.posix_spawn('/bin/ls', ['ls'], {})"),
    refused("terminal", "import pty; pty.fork()", type="OSError"),
    unreachable(
        "pool", "from concurrent.futures import ProcessPoolExecutor as P\nP(1).submit(int)"
    ),
    Attack(name="shell", code="import os; result = os.system('true') == 0", found=False),
    Attack(
        name="thread-bomb",
        code="import threading, time\ndef f(): time.sleep(99)\nresult = 0\ntry:\n"
        "  while True:\n    threading.Thread(target=f, daemon=True).start(); result += 1\n"
        "except RuntimeError: result = 30 < result < 64",
        found=True,
    ),
]

PLACES = [
    unreachable("root", "open('/x', 'w')"),
    unreachable("etc", "open('/etc/x', 'w')"),
    unreachable("usr", "open('/usr/x', 'w')"),
    unreachable("out", "import os; os.mkfifo('/out/result.json')"),
    refused("own-code", "open('/sandbox/guest/keeper.py')"),
    unreachable("own-interpreter", "import sys; open('/proc/self/exe', 'r+b')"),
    unreachable("dev", "open('/dev/x', 'w')"),
    unreachable("dev-shm", "open('/dev/shm/x', 'w')"),
    unreachable("dev-mqueue", "open('/dev/mqueue/x', 'w')"),
    unreachable("kernel-log", "open('/dev/kmsg', 'rb')"),
    unreachable("memory", "open('/dev/mem', 'rb')"),
    unreachable("terminals", "open('/dev/ptmx', 'rb')"),
    masked("/proc/keys"),
    refused("kernel-command-line", "open('/proc/cmdline', 'rb')"),
    refused("kernel-symbols", "open('/proc/kallsyms', 'rb')"),
    unreachable("kernel-memory", "open('/proc/kcore', 'rb')"),
    masked("/proc/timer_list"),
    masked("/proc/kmsg"),
    masked("/proc/vmallocinfo"),
    masked("/proc/sched_debug"),
    unreachable("sysrq", "open('/proc/sysrq-trigger', 'w')"),
    unreachable("core-pattern", "open('/proc/sys/kernel/core_pattern', 'w')"),
    unreachable("largest-pid", "open('/proc/sys/kernel/pid_max', 'w')"),
    unreachable("release-agent", "open('/sys/fs/cgroup/memory/release_agent', 'w')"),
    unreachable("cgroups", "import os; os.mkdir('/sys/fs/cgroup/x')"),
    unreachable("engine", "open('/var/run/docker.sock')"),
    unreachable("shadow", "open('/etc/shadow')"),
    unreachable("home", "import os; os.listdir('/root')"),
    refused(
        "out-of-tmp-by-link", "import os\nos.symlink('/proc/cmdline', '/tmp/a'); open('/tmp/a')"
    ),
    unreachable("hard-link-of-system", "import os; os.link('/usr/bin/env', '/tmp/env')"),
]

NETWORK = [
    refused("internet", "import socket; socket.socket()"),
    refused("internet-6", "import socket; socket.socket(socket.AF_INET6)"),
    refused("virtual-machine", "import socket; socket.socket(40, 1)"),
    refused("netlink", "import socket; socket.socket(socket.AF_NETLINK, 3, 0)"),
    refused("packets", "import socket; socket.socket(socket.AF_PACKET, 3)"),
    refused("crypto", "import socket; socket.socket(38, 5, 0)"),
    refused("name", "import socket; socket.getaddrinfo('postgres', 5432)", type="gaierror"),
    refused(
        "download",
        "import urllib.request\nurllib.request.urlopen('http://1.1.1.1/')",
        type="URLError",
    ),
    refused("connection", "import socket; socket.create_connection(('127.0.0.1', 22), 1)"),
    Attack(
        name="only-loopback",
        code="result = [line.split(':')[0].strip() for line in open('/proc/self/net/dev')][2:]",
        found=["lo"],
    ),
    refused(
        "bpf-of-socket", "import socket\na, b = socket.socketpair()\na.setsockopt(1, 26, bytes(16))"
    ),
]

RIGHTS = [
    refused("root-user", "import os; os.setuid(0)"),
    refused("root-group", "import os; os.setgid(0)"),
    refused("groups", "import os; os.setgroups([0])"),
    refused("change-root", "import os; os.chroot('/tmp')"),
    refused("host-name", "import socket; socket.sethostname('x')"),
    refused("clock", "import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)"),
    refused("ownership", "import os; os.chown('/tmp', 0, 0)"),
    refused("attributes", "import os; os.setxattr('/tmp', 'user.x', b'1')"),
    refused("anonymous-file", "import os; os.memfd_create('x')"),
    Attack(
        name="no-capabilities",
        code="names = ('CapEff', 'CapPrm', 'CapBnd', 'NoNewPrivs', 'Seccomp')\n"
        "lines = dict(line.split(':\\t') for line in open('/proc/self/status'))\n"
        "result = [int(lines[n], 16) for n in names]",
        found=[0, 0, 0, 1, 2],
    ),
    Attack(
        name="no-privileged-user",
        code="import os; result = [os.getuid(), os.geteuid(), os.getgid(), os.getegid()]",
        found=[65534] * 4,
    ),
    Attack(
        name="no-core-file",
        code="import resource; result = resource.getrlimit(resource.RLIMIT_CORE)",
        found=[0, 0],
    ),
    Attack(
        name="never-dumped",
        code="import ctypes; result = ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)",
        found=-1,
    ),
    Attack(
        name="host-environment",
        code="import os; result = sorted(os.environ)",
        found=["HOME", "LANG", "LC_ALL", "PATH", "PYTHONHASHSEED", "PYTHONUTF8", "TZ"],
    ),
    Attack(
        name="alone",
        code="import os; result = sum(n.isdigit() for n in os.listdir('/proc'))",
        word="CODE_ERROR",
    ),
]
