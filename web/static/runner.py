"""Runs a reader's answer in MicroPython; the page's worker calls ``run`` and gets JSON back."""

import io
import json
import math
import struct
import sys

YOURS = "your code"
AS_IN_PYTHON = {
    "divide by zero": ("ZeroDivisionError", "division by zero"),
    "maximum recursion depth exceeded": ("RecursionError", "maximum recursion depth exceeded"),
}


def run(request):
    """Define the reader's function and call it.

    Args:
        request: JSON with the code, the function's name and, as they are written in a call, the arguments.

    Returns:
        JSON: each call's result or exception; or why no call was made.
    """
    asked = json.loads(request)
    names = {"__name__": "__main__"}
    try:
        exec(compile(asked["code"], YOURS, "exec"), names)
    except BaseException as error:
        return json.dumps({"not_run": told(error)})
    if asked["name"] not in names:
        return json.dumps({"missing": True})
    return json.dumps({"calls": [called(names[asked["name"]], key) for key in asked["inputs"]]})


def called(function, key):
    try:
        result = function(*eval("(" + key + ",)"))
        return {"value": encoded(result), "shown": repr(result)[:80], "truth": bool(result)}
    except BaseException as error:
        return told(error)


def told(error):
    """An exception's kind, its message, and the line of the reader's code that raised it."""
    trace = io.StringIO()
    sys.print_exception(error, trace)
    lines = [line for line in trace.getvalue().split("\n") if '"' + YOURS + '"' in line]
    number = lines[-1].split("line ")[1].split(",")[0] if lines else ""
    kind, message = AS_IN_PYTHON.get(str(error), (type(error).__name__, str(error)))
    return {"kind": kind, "error": message, "line": number}


def encoded(value, depth=0):
    """Floats to the last bit; a blank is nothing; what is neither a number nor a list of them is its type."""
    if value is None or value is ...:
        return ["none"]
    if isinstance(value, bool):
        return ["number", "1" if value else "0"]
    if isinstance(value, int):
        return ["number", str(value)]
    if isinstance(value, float):
        return ["float", struct.pack(">d", value).hex()]
    if isinstance(value, (list, tuple)) and depth < 2 and len(value) < 1000:
        return ["list", [encoded(each, depth + 1) for each in value]]
    return ["other", type(value).__name__]


def extend():
    """Add what Python has and MicroPython lacks, where an answer may well use it."""

    class Module:
        pass

    def module(name, base=None, **more):
        made = Module()
        for key in dir(base) if base else ():
            setattr(made, key, getattr(base, key))
        for key, value in more.items():
            if not hasattr(base, key):
                setattr(made, key, value)
        sys.modules[name] = made

    def prod(values, start=1):
        for value in values:
            start *= value
        return start

    def isqrt(n):
        root = int(math.sqrt(n))
        while root * root > n:
            root -= 1
        while (root + 1) * (root + 1) <= n:
            root += 1
        return root

    def gcd(*values):
        one = 0
        for other in values:
            while other:
                one, other = other, one % other
        return abs(one)

    def lcm(*values):
        found = 1
        for value in values:
            found = abs(found * value) // gcd(found, value) if value else 0
        return found

    def comb(n, k):
        return math.factorial(n) // (math.factorial(k) * math.factorial(n - k)) if k <= n else 0

    def mean(values):
        values = list(values)
        return sum(values) / len(values)

    def pairwise(values):
        values = list(values)
        return zip(values[:-1], values[1:])

    def accumulate(values):
        total = None
        for value in values:
            total = value if total is None else total + value
            yield total

    def groupby(values, key=None):
        groups = []
        for value in values:
            mark = key(value) if key else value
            if groups and groups[-1][0] == mark:
                groups[-1][1].append(value)
            else:
                groups.append((mark, [value]))
        return iter(groups)

    import itertools

    more = {
        "prod": prod,
        "isqrt": isqrt,
        "gcd": gcd,
        "lcm": lcm,
        "comb": comb,
        "fsum": lambda values: sum(values),
        "cbrt": lambda x: math.copysign(abs(x) ** (1 / 3), x),
        "hypot": lambda *values: math.sqrt(sum(v * v for v in values)),
        "exp2": lambda x: 2.0**x,
    }
    module("math", math, **more)
    module("itertools", itertools, pairwise=pairwise, accumulate=accumulate, groupby=groupby)
    module("statistics", mean=mean, fmean=mean)
    module("__future__", annotations=None)
    names = ("Any", "Callable", "Iterable", "List", "Optional", "Sequence", "Tuple", "Union")
    module("typing", **{name: None for name in names})


extend()
