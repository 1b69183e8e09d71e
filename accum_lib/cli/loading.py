"""Import what ``module:function``, ``file.py:Class.method`` or ``notebook.ipynb:function`` names."""

import ast
import importlib
import inspect
import json
import linecache
import os
import pathlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from accum_lib.words import _


def load(name: str) -> Any:
    """The object that ``module:function``, ``file.py:function``, ``file.py:Class.method`` names.

    It is looked for from this folder on.

    Raises:
        ValueError: the name has another form, or there is no such function.
        ImportError: there is no such module.
    """
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute:
        raise ValueError(
            _("{name!r} must have the form MODULE:FUNCTION, such as my_training:train", name=name)
        )
    if place.endswith(".ipynb"):
        return _attribute_of(notebook(pathlib.Path(place), attribute.partition(".")[0]), place, attribute)
    if place.endswith(".py"):
        file = pathlib.Path(place).resolve()
        if not file.exists():
            raise no_file(place)
        sys.path.insert(0, str(file.parent))
        place = file.stem
    elif os.sep in place or (pathlib.Path(place).suffix and pathlib.Path(place).is_file()):
        raise ValueError(f"{place} is no Python file (.py), and a module's name has dots instead of {os.sep}")
    sys.path.insert(0, os.getcwd())
    try:
        with reported_if_it_exits(f"the import of {place}"), _without_arguments(place):
            module = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # the reader's module was found, and misses something itself
        raise ImportError(
            _(
                "there is no module {place!r} in this folder or installed: give a file, such as "
                "train.py:train, or go to the folder that holds it",
                place=place,
            )
        ) from error
    except (ValueError, TypeError, ImportError, OSError):
        raise
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1]
        at = f"{line.filename}, line {line.lineno}"
        raise ImportError(f"{place} can't be imported: {type(error).__name__}: {error} ({at})") from error
    return _attribute_of(module, place, attribute)


def load_function(name: str) -> Any:
    """As ``load``.

    Raises:
        ValueError: there is something else of this name, too.
    """
    found = load(name)
    if not callable(found):
        raise ValueError(
            _(
                "{name} is {found!r:.60}, and no function: name a function, or a method",
                name=name,
                found=found,
            )
        )
    for is_one, kind in ((inspect.isgeneratorfunction, "yields"), (inspect.iscoroutinefunction, "is async")):
        if is_one(found):
            raise ValueError(
                f"{name} {kind}, so a call runs nothing of it: name a plain function that runs it"
            )
    return found


def no_file(path: str | pathlib.Path) -> ValueError:
    return ValueError(
        _("there is no file {path}: is the path right, seen from {folder}?", path=path, folder=os.getcwd())
    )


def _attribute_of(module: ModuleType, place: str, attribute: str) -> Any:
    first, _dot, method = attribute.partition(".")
    if not hasattr(module, first):
        functions = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
        raise ValueError(
            _(
                "{place} has no {name!r}; it has {functions}",
                place=place, name=first, functions=", ".join(functions) or _("no function"),
            )
        )  # fmt: skip
    found = getattr(module, first)
    return _method_of(found, attribute, method) if method else found


def _method_of(owner: Any, name: str, method: str) -> Any:
    """``Class.method`` of an object that the class makes without arguments, or of the object named."""
    if not hasattr(owner, method):
        raise ValueError(f"{name}: there is no {method!r}")
    plain = isinstance(inspect.getattr_static(owner, method), staticmethod | classmethod)
    if not inspect.isclass(owner) or plain:
        return getattr(owner, method)
    try:
        return getattr(owner(), method)
    except TypeError as error:
        raise ValueError(
            f"{name} needs an object, and {owner.__name__}() can't be made without arguments ({error}): name "
            f"a function that makes one and calls its {method}"
        ) from error


@contextmanager
def reported_if_it_exits(what: str) -> Iterator[None]:
    """``sys.exit`` in the reader's code would end this command with the reader's status, 0 perhaps; and an
    exception that is not meant to be caught with a traceback and 1, which says that a loop is wrong.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except SystemExit as error:
        if any(module == "argparse" for module in _modules_of(error)):
            raise ValueError(
                f"{what} ended the process itself (SystemExit with {error.code!r}): it parses the command "
                "line when it is imported, and the usage text above is its own, not this command's. Put "
                "parse_args under if __name__ == '__main__', or give its arguments defaults"
            ) from error
        raise ValueError(
            f"{what} ended the process itself (SystemExit with {error.code!r}), so there is no result: put "
            "what is to run as a script under if __name__ == '__main__', and raise instead of sys.exit"
        ) from error
    except BaseException as error:
        raise RuntimeError(
            f"{what} raised {type(error).__name__} ({error}), which no except Exception catches: derive it "
            "from Exception"
        ) from error


def _modules_of(error: BaseException) -> list[str]:
    return [frame.f_globals.get("__name__", "") for frame, _line in traceback.walk_tb(error.__traceback__)]


@contextmanager
def _without_arguments(name: str) -> Iterator[None]:
    """A script that parses arguments when it is imported gets its defaults, not this command's arguments."""
    before, sys.argv = sys.argv, [name]
    try:
        yield
    finally:
        sys.argv = before


def notebook(path: pathlib.Path, wanted: str) -> ModuleType:
    """A notebook as a module: its cells that import or define something, or only set plain values.

    Raises:
        ValueError: there is no such file, it is no notebook, or a cell fails and so nothing has this name.
    """
    if not path.exists():
        raise no_file(path)
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no notebook of format 4 ({type(error).__name__}: {error})") from error
    module = ModuleType(f"{path.stem}_ipynb")
    sys.modules[module.__name__] = module  # dataclasses look for their module
    sys.path.insert(0, str(path.resolve().parent))
    failed = ""
    for number, source in enumerate(sources, start=1):
        lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n")]
        file, text = f"{path}, cell {number}", "\n".join(lines)
        linecache.cache[file] = (len(text), None, [f"{line}\n" for line in lines], file)
        try:
            tree = ast.parse(text)
            if _defines(tree):
                with reported_if_it_exits(f"code cell {number} of {path}"), _without_arguments(str(path)):
                    exec(compile(tree, file, "exec"), vars(module))
        except Exception as error:
            failed = failed or f"code cell {number} fails: {type(error).__name__}: {error}"
    if failed and not hasattr(module, wanted):
        raise ValueError(f"{path} has no {wanted!r}: {failed}")
    return module


def _defines(tree: ast.Module) -> bool:
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    plain = [s for s in tree.body if isinstance(s, ast.Assign | ast.AnnAssign) and _is_plain(s.value)]
    return any(isinstance(s, kinds) for s in tree.body) or len(plain) == len(tree.body)


def _is_plain(value: ast.expr | None) -> bool:
    try:
        ast.literal_eval(value or "None")
    except ValueError:
        return False
    return True
