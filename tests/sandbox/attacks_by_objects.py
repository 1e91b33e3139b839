"""What code may leave or raise: objects whose classes lie, never end, or are endless themselves."""

from __future__ import annotations

from tests.sandbox.attacks import Attack


def failing(name: str, code: str, *, type: str, found: str = "") -> Attack:  # noqa: A002
    """Something that is told as an exception of the code."""
    return Attack(name=name, code=code, word="CODE_ERROR", type=type, found=found)


def endless(name: str, code: str) -> Attack:
    """Something that only the clock ends."""
    return Attack(name=name, code=code, word="WALL", limits={"wall_seconds": 0.5})


_ENDLESS_STR = "class E(Exception):\n  def __str__(self):\n    while True: pass\n"

RESULTS = [
    failing(
        "class-that-lies",
        "class A:\n  __class__ = str\nresult = A()",
        type="TypeError",
        found="result: __main__.A cannot be written as JSON",
    ),
    Attack(
        name="number-with-another-class",
        code="class A(int):\n  __class__ = dict\nresult = A(3)",
        found=3,
    ),
    Attack(
        name="endless-iteration",
        code="class A(list):\n  def __iter__(self):\n    while True: yield self\nresult = A([1])",
        found=[1],
    ),
    Attack(
        name="no-truth-no-length",
        code="class A(dict):\n  def __len__(self): return -1\n  def __bool__(self): 1 / 0\n"
        "result = A(a=1)",
        found={"a": 1},
    ),
    Attack(
        name="no-attributes",
        code="class A(list):\n  def __getattribute__(self, name): raise SystemExit(0)\n"
        "result = A([1])",
        found=[1],
    ),
    Attack(
        name="class-of-classes",
        code="class M(type):\n  def mro(cls): return [cls, list, object]\n"
        "  def __instancecheck__(cls, _): return True\nclass A(list, metaclass=M): pass\n"
        "result = A([1])",
        found=[1],
    ),
    failing(
        "class-with-an-endless-name",
        "class M(type):\n  def __repr__(cls):\n    while True: pass\n"
        "class A(metaclass=M): pass\nresult = A()",
        type="TypeError",
        found="__main__.A",
    ),
    Attack(
        name="endless-finalizer-of-result",
        code="class A(list):\n  def __del__(self):\n    while True: pass\nresult = A([1])",
        found=[1],
    ),
    endless("endless-finalizer", "class A:\n  def __del__(self):\n    while True: pass\nA()"),
    failing("list-in-itself", "result = []\nresult.append(result)", type="ValueError", found="64"),
    failing("dict-in-itself", "result = {}\nresult['a'] = result", type="ValueError", found="64"),
    failing("deep-list", "a = []\nfor _ in range(10 ** 6): a = [a]\nresult = a", type="ValueError"),
    Attack(
        name="small-but-endless-as-json",
        code="a = []\nfor _ in range(40): a = [a, a]\nresult = a",
        word="RESULT_TOO_LARGE",
    ),
    failing("long-number", "result = 10 ** 10 ** 6", type="ValueError", found="4300 digits"),
    failing("long-number-as-key", "result = {10 ** 5000: 1}", type="ValueError", found="4300"),
    Attack(
        name="long-number-without-bound",
        code="import sys\nsys.set_int_max_str_digits(0)\nresult = 1 << 8 * 10 ** 7",
        word="WALL",
        limits={"wall_seconds": 1.0},
    ),
    Attack(name="long-key", code="result = {'k' * 10 ** 6: 1}", word="RESULT_TOO_LARGE"),
    failing("half-pair", "result = ['\\ud800']", type="ValueError", found="surrogate"),
    failing("half-pair-as-key", "result = {'\\udcff': 1}", type="ValueError", found="surrogate"),
    Attack(name="nul", code="result = {'a\\0': '\\0'}", found={"a\0": "\0"}),
    failing("generator", "result = (n for n in range(9))", type="TypeError"),
    Attack(
        name="no-names",
        code="import sys\nresult = 1\nsys.modules['__main__'].__dict__.clear()",
    ),
    Attack(
        name="module-with-another-class",
        code="import sys, types\nclass M(types.ModuleType):\n  result = property(lambda s: 1 / 0)\n"
        "sys.modules['__main__'].__class__ = M\nresult = 3",
        found=3,
    ),
    Attack(
        name="bounds-of-the-guest",
        code="import sys\nf = sys._getframe()\nwhile 'request' not in f.f_locals: f = f.f_back\n"
        "object.__setattr__(f.f_locals['request'].limits, 'result_bytes', 10 ** 9)\n"
        "result = 'x' * 10 ** 6",
        word="RESULT_TOO_LARGE",
    ),
]

EXCEPTIONS = [
    endless("endless-text", _ENDLESS_STR + "raise E"),
    endless("endless-text-of-cause", _ENDLESS_STR + "raise ValueError(1) from E()"),
    endless("endless-text-of-part", _ENDLESS_STR + "raise ExceptionGroup('x', [E()])"),
    endless(
        "endless-text-of-note", _ENDLESS_STR + "e = ValueError(1)\ne.__notes__ = [E()]\nraise e"
    ),
    endless(
        "endless-text-of-syntax", _ENDLESS_STR + "raise SyntaxError(E(), ('<step>', 1, 1, 'x'))"
    ),
    failing(
        "text-of-100-mb",
        "class E(Exception):\n  def __str__(self): return 'x' * 10 ** 8\nraise E",
        type="E",
    ),
    failing(
        "text-that-is-none",
        "class E(Exception):\n  def __str__(self): return 5\nraise E",
        type="E",
        found="its __str__ failed",
    ),
    failing(
        "text-of-itself",
        "class E(Exception):\n  def __str__(self): return str(self)\nraise E",
        type="E",
        found="its __str__ failed",
    ),
    failing(
        "text-of-another-class",
        "class S(str):\n  def __str__(self): 1 / 0\n  def encode(self, *_): 1 / 0\n"
        "class E(Exception):\n  def __str__(self): return S('x')\nraise E",
        type="E",
    ),
    failing(
        "long-notes",
        "e = ValueError('x')\ne.__notes__ = ['n' * 10 ** 7] * 3\nraise e",
        type="ValueError",
        found="x",
    ),
    failing(
        "wide-group",
        "raise ExceptionGroup('x', [ValueError(n) for n in range(20_000)])",
        type="ExceptionGroup",
        found="20000 sub-exceptions",
    ),
    failing(
        "deep-group",
        "e = ValueError(1)\nfor _ in range(20_000): e = ExceptionGroup('x', [e])\nraise e",
        type="ExceptionGroup",
    ),
    failing(
        "number-that-raises",
        "class E(OSError):\n  errno = property(lambda self: 1 / 0)\nraise E(1, 'x')",
        type="E",
        found="x",
    ),
    failing(
        "number-that-is-none",
        "e = OSError(1, 'x')\ne.errno = []\nraise e",
        type="PermissionError",
        found="x",
    ),
    failing(
        "exception-with-another-class",
        "class E(Exception):\n  __class__ = OSError\nraise E(28, 'x')",
        type="E",
    ),
    failing(
        "line-beyond-the-code",
        "import sys, types\ntry: 1 / 0\nexcept Exception as e:\n"
        "  e.__traceback__.tb_next = types.TracebackType(None, sys._getframe(), 0, 2 ** 30)\n"
        "  raise",
        type="ZeroDivisionError",
    ),
    failing(
        "line-beyond-all-numbers",
        "raise SyntaxError('m', ('<step>', 10 ** 30, 1, 't' * 10 ** 7))",
        type="SyntaxError",
    ),
    failing(
        "line-that-is-none", "raise SyntaxError('m', ('<step>', 'no', 1, 't'))", type="SyntaxError"
    ),
    failing(
        "another-file", "exec(compile('1 / 0', 'x' * 10 ** 6, 'exec'))", type="ZeroDivisionError"
    ),
    failing(
        "no-source",
        "import linecache\nlinecache.getlines = linecache.getline = None\n1 / 0",
        type="ZeroDivisionError",
    ),
    failing(
        "no-traceback",
        "import traceback\ntraceback.TracebackException.from_exception = None\n1 / 0",
        type="ZeroDivisionError",
    ),
    failing("exit-of-another-class", "class X(SystemExit): pass\nraise X('a' * 10 ** 6)", type="X"),
    failing(
        "exit-code-that-raises",
        "class C:\n  def __hash__(self): 1 / 0\nraise SystemExit(C())",
        type="ZeroDivisionError",
    ),
    failing("base-exception", "class B(BaseException): pass\nraise B(1)", type="B", found="1"),
    failing("end-of-generator", "raise GeneratorExit", type="GeneratorExit"),
]
