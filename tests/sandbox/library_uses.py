"""What code steps do with the standard library, and may."""

USES = {
    "threads": """
import threading
out = []
workers = [threading.Thread(target=out.append, args=(n,)) for n in range(40)]
[w.start() for w in workers]; [w.join() for w in workers]
assert sorted(out) == list(range(40))
""",
    "thread recursion": """
import threading
def deep(n): return n and deep(n - 1)
out = []
t = threading.Thread(target=lambda: out.append(deep(900))); t.start(); t.join()
assert out == [0]
""",
    "executor": """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool: assert sum(pool.map(abs, range(-50, 0))) == 1275
""",
    "queue": """
import queue
q = queue.PriorityQueue(); q.put(2); q.put(1); assert q.get(timeout=1) == 1
""",
    "condition": "import threading\nc = threading.Condition()\nwith c: assert not c.wait(0.01)",
    "timer": """
import threading
e = threading.Event(); threading.Timer(0.01, e.set).start(); assert e.wait(5)
""",
    "asyncio": """
import asyncio
async def main():
    reader, writer = asyncio.Queue(), asyncio.Event()
    async def work():
        await asyncio.sleep(0.01); await reader.put(1); writer.set()
    async with asyncio.timeout(5):
        await asyncio.gather(work(), writer.wait())
    return await asyncio.to_thread(lambda: 7) + await reader.get()
assert asyncio.run(main()) == 8
""",
    "asyncio local sockets": """
import asyncio
async def main():
    async def serve(r, w): w.write((await r.readline()).upper()); await w.drain(); w.close()
    server = await asyncio.start_unix_server(serve, "/tmp/server")
    r, w = await asyncio.open_unix_connection("/tmp/server")
    w.write(b"x\\n"); found = await r.readline(); w.close(); server.close()
    return found
assert asyncio.run(main()) == b"X\\n"
""",
    "selectors": """
import selectors, socket
a, b = socket.socketpair()
for kind in (selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector):
    with kind() as s:
        s.register(b, selectors.EVENT_READ); a.send(b"x")
        assert s.select(1); assert b.recv(9) == b"x"
a.settimeout(1); a.sendmsg([b"y"]); assert b.recvmsg(9)[0] == b"y"; a.close(); b.close()
""",
    "event descriptors": """
import os
e = os.eventfd(1); assert os.eventfd_read(e) == 1; os.close(e)
r, w = os.pipe(); os.set_blocking(r, False); os.write(w, b"x"); assert os.read(r, 9) == b"x"
os.close(r); os.close(w)
""",
    "files": """
import os, pathlib
p = pathlib.Path("/tmp/files"); p.mkdir(); f = p / "a"
f.write_text("hello"); os.truncate(f, 3); assert f.read_text() == "hel"
f.chmod(0o600); os.utime(f, (1, 2)); assert f.stat().st_mtime == 2
with open(f, "r+b") as g: g.seek(1); g.write(b"E"); g.flush(); os.fsync(g.fileno())
f.rename(p / "b"); (p / "c").symlink_to(p / "b"); (p / "d").hardlink_to(p / "b")
assert (p / "c").read_text() == "hEl" and sorted(os.listdir(p)) == ["b", "c", "d"]
os.posix_fallocate(os.open(p / "e", os.O_RDWR | os.O_CREAT), 0, 99)
assert os.access(p, os.R_OK | os.W_OK) and os.statvfs(p).f_bsize
""",
    "shutil": """
import os, shutil
os.makedirs("/tmp/s/a/b"); open("/tmp/s/a/b/x", "w").write("1" * 5000)
shutil.copytree("/tmp/s/a", "/tmp/s/c"); shutil.copy2("/tmp/s/a/b/x", "/tmp/s/y")
shutil.move("/tmp/s/y", "/tmp/s/c/y"); shutil.move("/tmp/s/c/b", "/tmp/s/a/moved")
assert shutil.disk_usage("/tmp").total; shutil.rmtree("/tmp/s")
assert not os.path.exists("/tmp/s")
""",
    "archives": """
import bz2, gzip, lzma, os, shutil, tarfile, zipfile, zlib
for m in (bz2, gzip, lzma, zlib): assert m.decompress(m.compress(b"x" * 999)) == b"x" * 999
os.mkdir("/tmp/ar"); open("/tmp/ar/a", "w").write("1")
for kind in ("zip", "gztar", "xztar"):
    made = shutil.make_archive("/tmp/made", kind, "/tmp/ar")
    shutil.unpack_archive(made, "/tmp/un" + kind)
    assert open("/tmp/un" + kind + "/a").read() == "1"
""",
    "temporary files": """
import tempfile
with tempfile.TemporaryDirectory() as d, tempfile.NamedTemporaryFile(dir=d) as f: f.write(b"1")
with tempfile.TemporaryFile() as f, tempfile.SpooledTemporaryFile(9) as g: g.write(b"1" * 99)
assert tempfile.gettempdir() == "/tmp"
""",
    "walking": """
import fnmatch, glob, os
place = os.path.dirname(os.__file__)
assert glob.glob(place + "/json/**/decoder.py", recursive=True)
assert [e for e in os.scandir("/usr")] and fnmatch.fnmatch("a.b", "*.b")
""",
    "locks of files": """
import fcntl
with open("/tmp/lock", "w") as f: fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_UN)
""",
    "mapped file": """
import mmap
with open("/tmp/map", "w+b") as f:
    f.truncate(4096); m = mmap.mmap(f.fileno(), 0); m[:3] = b"abc"; m.flush(); m.close()
m = mmap.mmap(-1, 4096); m.write(b"x"); m.resize(8192); m.close()
""",
    "sqlite": """
import sqlite3
for place in (":memory:", "/tmp/base.db"):
    with sqlite3.connect(place) as c:
        c.execute("create table t (a, b)")
        c.executemany("insert into t values (?, ?)", [(1, 2)] * 500)
        assert c.execute("select sum(a * b) from t").fetchone() == (1000,)
c.execute("pragma journal_mode=wal"); c.execute("insert into t values (1, 1)"); c.commit()
c.close()
""",
    "dbm and shelve": """
import shelve
with shelve.open("/tmp/shelf") as s: s["a"] = [1]; assert s["a"] == [1]
""",
    "numbers": """
import cmath, decimal, fractions, math, statistics
assert decimal.Decimal(2).sqrt(decimal.Context(50)) and fractions.Fraction(1, 3) + 1
assert statistics.linear_regression([1, 2], [2, 4]).slope == 2 and math.comb(50, 5)
assert cmath.sqrt(-1) == 1j
""",
    "large list": "x = list(range(2_000_000)); x.sort(key=lambda n: -n); assert x[0] == 1_999_999",
    "dates": """
import calendar, datetime, zoneinfo
berlin = zoneinfo.ZoneInfo("Europe/Berlin") if zoneinfo.available_timezones() else datetime.UTC
assert datetime.datetime(2024, 7, 1, tzinfo=berlin).isoformat()
assert calendar.monthrange(2024, 2)[1] == 29
assert datetime.datetime.strptime("2024-01-02", "%Y-%m-%d").weekday() == 1
""",
    "times": """
import time
a = time.monotonic(); time.sleep(0.01); assert time.monotonic() > a and time.perf_counter()
assert time.process_time() and time.thread_time() and time.clock_getres(time.CLOCK_MONOTONIC)
""",
    "text formats": """
import ast, configparser, csv, html, io, json, plistlib, tomllib, xml.etree.ElementTree as E
assert list(csv.reader(io.StringIO("a,b"))) == [["a", "b"]] and json.loads("[1]") == [1]
assert tomllib.loads("a = 1") == {"a": 1} and E.fromstring("<a b='1'/>").get("b") == "1"
configparser.ConfigParser().read_string("[a]\\nb=1"); html.unescape("&lt;"); plistlib.dumps({})
assert ast.literal_eval("[1]") == [1]
""",
    "xml": """
import xml.dom.minidom, xml.sax
assert xml.dom.minidom.parseString("<a/>").toxml()
xml.sax.parseString(b"<a/>", xml.sax.ContentHandler())
""",
    "text": """
import difflib, locale, re, string, textwrap, unicodedata
assert re.sub("a", lambda m: "b", "aa") == "bb"
assert unicodedata.normalize("NFC", "e\\u0301") == "\\xe9"
assert list(difflib.unified_diff(["a"], ["b"])) and textwrap.wrap("a b", 1)
assert string.Template("$a").substitute(a=1)
locale.setlocale(locale.LC_ALL, ""); assert locale.getpreferredencoding()
""",
    "mail and web": """
import email.message, email.utils, http.cookies, mimetypes, urllib.parse
m = email.message.EmailMessage(); m["Subject"] = "x"; m.set_content("y"); assert m.as_bytes()
assert urllib.parse.urlparse("http://a/b").netloc == "a" and mimetypes.guess_type("a.txt")[0]
assert email.utils.make_msgid(domain="x")
""",
    "hashes": """
import binascii, hashlib, hmac, secrets
for name in ("md5", "sha256", "sha3_512", "blake2b"): assert hashlib.new(name, b"x").hexdigest()
assert hashlib.pbkdf2_hmac("sha256", b"x", b"y", 1000)
assert hashlib.scrypt(b"x", salt=b"y", n=16, r=1, p=1)
assert hmac.new(b"k", b"x", "sha256").hexdigest() and secrets.token_hex(8) and binascii.crc32(b"x")
""",
    "pickles": """
import copy, datetime, pickle
now = datetime.datetime.now()
assert pickle.loads(pickle.dumps([now, type(now)])) == [now, datetime.datetime]
assert copy.deepcopy(now) == now and copy.copy([now]) == [now]
""",
    "classes": """
import abc, contextvars, dataclasses, enum, functools, graphlib, typing, weakref
@dataclasses.dataclass(frozen=True)
class P: x: int = 1
class C(enum.Enum): A = 1
assert dataclasses.replace(P(), x=2).x == 2 and C["A"] and functools.lru_cache(P)().x == 1
assert list(graphlib.TopologicalSorter({1: [2]}).static_order()) == [2, 1]
contextvars.copy_context().run(lambda: 1); weakref.WeakValueDictionary()
typing.get_type_hints(P)
""",
    "looking inside": """
import dis, inspect, io, linecache, sys, traceback, tracemalloc
def f(): return 1
assert inspect.signature(f) is not None and sys.getsizeof([]) and traceback.format_stack()
dis.dis(f, file=io.StringIO()); tracemalloc.start(); tracemalloc.stop()
""",
    "profile": """
import cProfile
p = cProfile.Profile(); p.runcall(sorted, [2, 1]); assert p.getstats()
""",
    "logging": """
import logging, logging.handlers, sys
logging.basicConfig(stream=sys.stdout, force=True); logging.warning("x")
logging.handlers.QueueHandler(__import__("queue").Queue()).emit(logging.makeLogRecord({}))
""",
    "signals": """
import signal, time
hits = []
signal.signal(signal.SIGALRM, lambda *_: hits.append(1)); signal.setitimer(signal.ITIMER_REAL, 0.01)
signal.pause(); assert hits == [1]
signal.signal(signal.SIGUSR1, lambda *_: hits.append(2)); signal.raise_signal(signal.SIGUSR1)
assert hits == [1, 2] and signal.pthread_sigmask(signal.SIG_BLOCK, []) is not None
""",
    "facts": """
import os, platform, resource, socket, sys
assert os.cpu_count() and os.getpid() and os.getppid() == 1 and len(os.sched_getaffinity(0))
assert platform.machine() and platform.platform() and socket.gethostname() == "sandbox"
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert resource.getrlimit(resource.RLIMIT_DATA)
assert os.times().user >= 0 and os.uname().sysname == "Linux" and sys.version_info >= (3, 11)
assert os.path.expanduser("~") == "/tmp" and os.getcwd() == "/tmp" and os.umask(0o22) is not None
""",
    "foreign functions": """
import ctypes
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
values = (ctypes.c_int * 3)(3, 1, 2)
ctypes.CDLL(None).qsort(values, 3, 4, compare(lambda a, b: a[0] - b[0]))
assert list(values) == [1, 2, 3]
""",
    "own module": """
import importlib, sys
open("/tmp/mine.py", "w").write("x = 5"); sys.path.insert(0, "/tmp")
assert importlib.import_module("mine").x == 5
""",
    "address and random": """
import ipaddress, random, uuid
assert ipaddress.ip_network("10.0.0.0/8").num_addresses == 2 ** 24
assert uuid.uuid5(uuid.NAMESPACE_DNS, "x")
assert random.sample(range(9), 3) and random.gauss(0, 1) is not None
""",
    "parser": """
import argparse
p = argparse.ArgumentParser(); p.add_argument('-a'); assert p.parse_args(['-a', '1']).a == '1'
""",
    "faults": "import faulthandler\nfaulthandler.enable(); faulthandler.disable()",
    "warnings": """
import warnings
with warnings.catch_warnings(record=True) as w: warnings.warn('x'); assert w
""",
}
