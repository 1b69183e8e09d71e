"""Runs a reader's answer in MicroPython; the page's worker calls ``run`` and gets JSON back."""

import io
import json
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
        return {
            "value": encoded(result),
            "shown": repr(result)[:80],
            "truth": result is not ... and bool(result),
        }
    except BaseException as error:
        return told(error)


def told(error):
    """An exception's kind, its message, and the line of the reader's code that raised it."""
    trace = io.StringIO()
    sys.print_exception(error, trace)
    lines = [line for line in trace.getvalue().split("\n") if '"' + YOURS + '"' in line]
    number = lines[-1].split("line ")[1].split(",")[0] if lines else ""
    kind, message = AS_IN_PYTHON.get(str(error), (type(error).__name__, str(error)))
    return {"kind": kind, "error": message.replace("_more'", "'"), "line": number}


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


for name in ("math", "itertools"):
    sys.modules[name] = __import__(name + "_more")
