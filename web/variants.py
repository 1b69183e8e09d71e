"""Slips in a formula: every answer that differs from the solution in one place."""

import ast
import copy
from collections.abc import Iterator

OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv)  # no power: it may take for ever
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq)
ROUNDING = ("ceil", "floor", "trunc")


def variants(source: str) -> list[str]:
    """Each with another operator, operands swapped, another constant or parameter, or a call left out.

    Args:
        source: of a script; what is outside its functions stays as it is.
    """
    tree = ast.parse(source)
    found: dict[str, None] = {}
    for place, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.expr):
            for other in _others(node, _parameters(tree)):
                changed = copy.deepcopy(tree)
                _Replace(list(ast.walk(changed))[place], other).visit(changed)
                found[ast.unparse(ast.fix_missing_locations(changed))] = None
    found.pop(ast.unparse(tree), None)
    return list(found)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.expr) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def _parameters(tree: ast.Module) -> list[str]:
    return [a.arg for node in tree.body if isinstance(node, ast.FunctionDef) for a in node.args.args]


def _others(node: ast.expr, names: list[str]) -> Iterator[ast.expr]:
    """What one may write in place of an expression."""
    if isinstance(node, ast.BinOp):
        yield from (ast.BinOp(node.left, op(), node.right) for op in OPERATORS if not isinstance(node.op, op))
        yield ast.BinOp(node.right, node.op, node.left)
        yield from (node.left, node.right)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield from (ast.Constant(value) for value in (node.value + 1, node.value - 1, 2 * node.value))
    elif isinstance(node, ast.Compare):
        yield from (ast.Compare(node.left, [op()], node.comparators) for op in COMPARISONS)
    elif isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse, ast.IfExp(node.test, node.orelse, node.body))
    elif isinstance(node, ast.Name) and node.id in names:
        yield from (ast.Name(name, ast.Load()) for name in names if name != node.id)
    elif isinstance(node, ast.Tuple | ast.List) and len(node.elts) > 1:
        yield type(node)(node.elts[::-1], node.ctx)
    elif isinstance(node, ast.Call) and node.args and not isinstance(node.args[0], ast.GeneratorExp):
        yield node.args[0]
        if isinstance(node.func, ast.Attribute) and node.func.attr in ROUNDING:
            others = (name for name in ROUNDING if name != node.func.attr)
            yield from (
                ast.Call(ast.Attribute(node.func.value, o, ast.Load()), node.args, []) for o in others
            )
