"""What is used inside PyTorch is listed, and a version without it is told in a sentence."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest
import torch

from accum_lib.private import CHECKER, MEMORY, need_inside_torch

LIBRARY = pathlib.Path(__file__).resolve().parents[2] / "accum_lib"
ENGINES = {"check": CHECKER, "memory": MEMORY}


def chain(node: ast.AST) -> str:
    """``torch._C.x`` as text; "" for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{before}.{node.attr}" if (before := chain(node.value)) else ""
    return node.id if isinstance(node, ast.Name) else ""


def private(source: str) -> set[str]:
    """The names inside PyTorch that the source uses; its operators, ``torch.ops``, are its interface."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("torch"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found.add(chain(node))
    inside = {name for name in found if re.match(r"torch\.(?!ops\.)", name)}
    return {name for name in inside if re.search(r"\._(?!_|foreach)", name)}


def unlisted(used: set[str], listed: tuple[str, ...]) -> set[str]:
    """A longer name is that of a listed one's part, or a listed one's module."""
    known = [name.replace(":", ".") for name in listed]
    return {
        u for u in used if not any(u == k or u.startswith(f"{k}.") or k.startswith(f"{u}.") for k in known)
    }


def used_in(engine: str) -> set[str]:
    files = [f for f in (LIBRARY / engine).rglob("*.py") if "frameworks" not in f.parts]
    return set().union(*(private(file.read_text(encoding="utf-8")) for file in files))


@pytest.mark.parametrize("engine", ENGINES)
def test_what_an_engine_uses_inside_torch_is_listed(engine) -> None:
    assert len(used_in(engine)) >= 2
    assert unlisted(used_in(engine), ENGINES[engine]) == set()
    assert unlisted(used_in(engine), ENGINES[engine][1:]), "one that is not listed would be noticed"


@pytest.mark.parametrize(
    "part", ["accumulate", "losses", "distributed", "vectors", "ranks", "_guards", "_device_reads"]
)
def test_the_core_uses_nothing_inside_torch(part) -> None:
    assert private((LIBRARY / f"{part}.py").read_text(encoding="utf-8")) == set()
    assert private("import torch\ntorch._C._x()\nfrom torch.utils._pytree import tree_map") != set()


def test_a_version_without_it_is_told(monkeypatch) -> None:
    monkeypatch.setattr(torch, "__version__", "9.0")
    need_inside_torch("a part", MEMORY)
    with pytest.raises(ImportError) as raised:
        need_inside_torch("accum_lib.memory", ("torch._C:_gone_in_nine",))
    assert str(raised.value) == (
        "accum_lib.memory uses torch._C._gone_in_nine inside PyTorch, which 9.0 does not have: it was tested "
        "with 2.11 and 2.13; the rest of the library works without it"
    )


def test_the_rest_of_the_library_works_without_it() -> None:
    code = (
        "import torch\n"
        "del torch._C._current_graph_task_id\n"
        "import accum_lib.accumulate, accum_lib.noise, accum_lib.distributed\n"
        "from accum_lib.__main__ import main\n"
        "print(main(['check', 'x:y']), main(['plan', '--model', 'gpt2', '--gpu', 'T4', '--batch', '8']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 2"
    assert done.stderr.count("uses torch._C._current_graph_task_id inside PyTorch") == 2
    assert "Traceback" not in done.stderr
