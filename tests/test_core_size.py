"""The core stays as short as a reader was promised, and is a module that can be imported by its name."""

import ast
import io
import tokenize
from pathlib import Path
from types import ModuleType

import accum_lib.accumulate as core

NOT_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that hold more than white space, a comment or a docstring."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {n for t in tokens if t.type not in NOT_CODE for n in range(t.start[0], t.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def sizes(source: str) -> dict[str, int]:
    """Lines of code of each function of the module, the signature included."""
    lines = code_lines(source)
    return {
        node.name: len(lines & set(range(node.lineno, node.end_lineno + 1)))
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
    }


def test_the_count_leaves_out_blanks_comments_and_docstrings() -> None:
    source = (
        '"""Doc\n\nstring."""\n\n# no\ndef f(\n    x,\n):\n    """Doc."""\n    # no\n    return x  # yes\n'
    )
    assert code_lines(source) == {6, 7, 8, 11}
    assert sizes(source) == {"f": 4}


def test_the_core_fits_on_a_screen() -> None:
    source = Path(core.__file__).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 190
    assert len(code_lines(source)) <= 110
    functions = sizes(source)
    assert set(functions) == {"windows", "accumulate", "apply_update"}
    assert max(functions.values()) < 30, functions


def test_the_name_of_the_core_is_a_module() -> None:
    """A function of the same name in the package would hide it."""
    assert isinstance(core, ModuleType)
    assert core.accumulate.__module__ == core.__name__ == "accum_lib.accumulate"
