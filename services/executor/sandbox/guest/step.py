"""The child: it bounds itself, runs the code and reports how that went."""

import linecache
import os
import signal
import sys
import types
from typing import Any, NoReturn

from . import bounds, libc, syscall_filter
from .aftermath import Aftermath
from .chance import settle_chance
from .clock import stop_clock
from .failure import STEP, described, failure_code, line_of, type_name
from .fence import fence_files
from .frames import write_all
from .request import Request
from .result import ResultTooLargeError, result_text

NOT_READY, READY = b"E", b"R"
"""How a report begins. Before READY nothing of the code has run."""

_ENVIRONMENT = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "TZ": "UTC",
}

_PACKAGES = ("dist-packages", "site-packages")
"""What happens to be installed beside Python is not part of it."""

_REPORT_BYTES = 64 * 2**10
"""More than the longest texts of an error."""

Report = dict[str, Any]


def run_child(request: Request, report_to: int) -> NoReturn:
    """Run the code, write the report, end this process. Never returns and never raises."""
    status = 1
    try:
        try:
            _become_step(request)
        except BaseException as error:  # noqa: BLE001 - told to the keeper
            write_all(report_to, NOT_READY + f"{type(error).__name__}: {error}".encode()[:1000])
        else:
            write_all(report_to, READY)
            report = _run(request).encode()
            os.set_blocking(report_to, True)
            write_all(report_to, report)
            status = 0
    finally:
        os._exit(status)


def _become_step(request: Request) -> None:
    """Give away, for ever, all that the code may not do."""
    for number in (signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(_ENVIRONMENT)
    os.chdir("/tmp")
    sys.argv = [STEP]
    sys.path[:] = [path for path in sys.path if not path.endswith(_PACKAGES)]
    settle_chance(request.seed)
    stop_clock(request.now)
    _forget_guest()
    fence_files()
    bounds.bound(request.limits)
    syscall_filter.install(os.getpid())


def _forget_guest() -> None:
    package = __name__.rpartition(".")[0]
    for name in list(sys.modules):
        if name == package or name.startswith(f"{package}."):
            del sys.modules[name]


def _run(request: Request) -> str:
    """The report on it, as JSON."""
    aftermath = Aftermath()
    main = types.ModuleType("__main__")
    main.__dict__["input_data"] = request.input
    sys.modules["__main__"] = main
    source = request.code
    linecache.cache[STEP] = (len(source), None, source.splitlines(keepends=True), STEP)
    failed: BaseException | None = None
    try:
        _execute(source, main.__dict__, aftermath)
    except BaseException as error:  # noqa: BLE001 - it is reported
        failed = error
    if failed is None:
        try:
            text = result_text(main.__dict__.get("result"), max_bytes=request.limits.result_bytes)
            return f'{{"ok":true,"result":{text}}}'
        except BaseException as error:  # noqa: BLE001 - it is reported
            failed = error
    report = _report(failed)
    if report["code"] == "MEMORY_LIMIT" and report["error"]["line"] is None:
        report["error"]["line"] = aftermath.line
    return result_text(report, max_bytes=_REPORT_BYTES)


def _execute(source: str, namespace: dict[str, Any], aftermath: Aftermath) -> None:
    try:
        code = compile(source, STEP, "exec", dont_inherit=True)
    except MemoryError:
        raise SyntaxError("the code is nested too deeply") from None
    sys.settrace(aftermath.see)
    release, untrace, unprofile = aftermath.release, sys.settrace, sys.setprofile
    try:
        try:
            exec(code, namespace)  # noqa: S102 - it is what this process is for
        finally:
            # Without any name of builtins, nor a call that Python would trace.
            release()
            try:
                untrace(None)
                unprofile(None)
            finally:
                aftermath.restore()
    except SystemExit as end:
        if end.code not in {None, 0}:
            raise


def _report(failed: BaseException) -> Report:
    if isinstance(failed, ResultTooLargeError):
        return {"ok": False, "code": "RESULT_TOO_LARGE"}
    code = failure_code(failed)
    if code == "MEMORY_LIMIT":
        bounds.give_headroom()
    try:
        error = described(failed)
    except BaseException:  # noqa: BLE001 - an exception that cannot be told is told briefly
        error = {
            "type": type_name(failed),
            "message": "",
            "line": line_of(failed),
            "traceback": "",
        }
    return {"ok": False, "code": code, "error": error}
