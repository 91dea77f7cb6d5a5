"""Functions written once for all sizes, and specialised: constants put in, loops over them written out.

In the source of a template names of constants become their values, what then is a condition on constants is decided,
and ``for i in unrolled(n)`` becomes its body, n times, with the numbers put in for ``i``. (Loops over coordinates the
compiler writes out by itself, for their arrays to be in registers.) The result is plain Python, which numba compiles
and its simulator runs.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

_numbers = itertools.count()


def unrolled(count: int) -> range:
    """Mark a loop that is written out."""
    return range(count)


class _Specialised(ast.NodeTransformer):
    """Put constants in, fold what is constant then, and write loops out."""

    def __init__(self, constants: Mapping[str, Any], arrays: frozenset[str]) -> None:
        self.constants = dict(constants)
        self.arrays = arrays

    def _called(self, name: str, node: ast.Subscript, *given: ast.expr) -> ast.expr:
        call = ast.Call(ast.Name(name, ast.Load()), [ast.Name(node.value.id, ast.Load()), node.slice, *given], [])  # type: ignore[attr-defined]
        return ast.copy_location(call, node)

    def _direct(self, node: Any) -> bool:
        return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in self.arrays

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        return self._called("load", node) if self._direct(node) and isinstance(node.ctx, ast.Load) else node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        self.generic_visit(node)
        target = node.targets[0]
        if not self._direct(target):
            return node
        assert isinstance(target, ast.Subscript)
        return ast.copy_location(ast.Expr(self._called("store", target, node.value)), node)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and node.id in self.constants:
            return ast.copy_location(ast.Constant(self.constants[node.id]), node)
        return node

    def _folded(self, node: Any, parts: list[Any]) -> Any:
        if not all(isinstance(part, ast.Constant) for part in parts):
            return node
        code = compile(ast.Expression(ast.fix_missing_locations(node)), "template", "eval")
        return ast.copy_location(ast.Constant(eval(code, {})), node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        return self._folded(node, [node.left, node.right])

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        return self._folded(node, [node.operand])

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        return self._folded(node, [node.left, *node.comparators])

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        return self._folded(node, node.values)

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.test, ast.Constant):
            return node.body if node.test.value else node.orelse
        return node

    def visit_If(self, node: ast.If) -> Any:
        test = self.visit(node.test)
        if isinstance(test, ast.Constant):
            return self._all(node.body if test.value else node.orelse)
        node.test, node.body, node.orelse = test, self._all(node.body) or [ast.Pass()], self._all(node.orelse)
        return node

    def visit_For(self, node: ast.For) -> Any:
        call = node.iter
        marked = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "unrolled"
        if not marked:
            self.generic_visit(node)
            return node
        assert isinstance(call, ast.Call)
        assert isinstance(node.target, ast.Name)
        count, name, result = self.visit(call.args[0]), node.target.id, []
        outer = self.constants.get(name)
        for i in range(count.value):
            self.constants[name] = i
            result += self._all([_copy(statement) for statement in node.body])
        self.constants.pop(name, None)
        if outer is not None:
            self.constants[name] = outer
        return result

    def _all(self, body: list[ast.stmt]) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        for statement in body:
            found = self.visit(statement)
            result += found if isinstance(found, list) else [found]
        return result


def _copy(node: Any) -> Any:
    """Return a copy of a tree."""
    if isinstance(node, list):
        return [_copy(one) for one in node]
    if not isinstance(node, ast.AST):
        return node
    return ast.copy_location(type(node)(**{name: _copy(value) for name, value in ast.iter_fields(node)}), node)


def specialised(
    template: Callable[..., None], constants: Mapping[str, Any], given: Mapping[str, Any]
) -> Callable[..., None]:
    """Return a template with its constants, and its other names as ``given``.

    Entries of arguments and of ``memory`` are read and written by ``load`` and ``store``: indices are not negative, and
    what numba does about those that are takes registers.
    """
    assert isinstance(template, FunctionType)
    tree = ast.parse(textwrap.dedent(inspect.getsource(template)))
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.returns, function.decorator_list = None, []
    for argument in function.args.args:
        argument.annotation = None
    arrays = frozenset([*(argument.arg for argument in function.args.args), "memory"])
    done = ast.fix_missing_locations(_Specialised(constants, arrays).visit(tree))
    space = {**template.__globals__, **given}
    # The lines are not those of the file any more.
    exec(compile(done, f"<{template.__name__} {next(_numbers)}>", "exec"), space)
    result: Callable[..., None] = space[template.__name__]
    return result
