"""Fault rules for the compiled core: the conditions of a rule, read from its Python source, as chains of comparisons.

What depends on the nameplate and the unit's own reference alone becomes a constant. Nothing is ever said twice: a rule that
this cannot translate leaves its whole equipment type to Python.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

import structlog

from domain.catalogue.facts import Facts
from domain.catalogue.fault_rule import FaultRule
from domain.catalogue.model import ModelCard
from domain.catalogue.registry import EQUIPMENT
from domain.catalogue.rules import FACTS, RULES
from domain.detection.baseline import Baseline
from gateway.samples import AHEAD_MS, OLDEST_MS

Test = list[Any]
"""``[slot, comparison, right, yes, no]``: ``right`` is a number or ``[slot, "+"|"*", number]``; ``yes`` and ``no`` say how to
go on: True, False, or the number of a later test. A slot is a figure of the facts, by its name."""
Program = bool | list[Test]

log = structlog.get_logger()


class UntranslatableError(Exception):
    """A condition that has no form in the core; the text says which part, and why."""


def channels_of(equipment_type: str) -> list[dict[str, Any]]:
    """The channels of a type as the core reads them, with the range of the wire."""
    return [
        {"key": channel.key, "kind": channel.kind, "low": channel.low, "high": channel.high}
        for channel in EQUIPMENT[equipment_type].channels.values()
    ]


def spec_of(card: ModelCard, baseline: Baseline | None = None) -> dict[str, Any] | None:
    """What the core must know about machines of this nameplate, as JSON; None where Python has to judge (the log says why)."""
    try:
        return compiled(card, baseline)
    except UntranslatableError as error:
        log.warning("rules_left_to_python", type=card.type, why=str(error))
        return None


def compiled(card: ModelCard, baseline: Baseline | None = None) -> dict[str, Any]:
    """As ``spec_of``. Raises UntranslatableError, naming the row."""
    equipment, reference = EQUIPMENT[card.type], (baseline or Baseline()).reference()
    rules = [rule for rule in RULES[card.type] if rule.key != "R01"]
    facts = FACTS[card.type](card, reference)
    return {
        "type": card.type,
        "card": dataclasses.asdict(card),
        "channels": channels_of(card.type),
        "states": list(equipment.states),
        "active": sorted(equipment.active_states),
        "reference": reference,
        "oldest_ms": OLDEST_MS,
        "ahead_ms": AHEAD_MS,
        "silence": next((rule.row for rule in RULES[card.type] if rule.key == "R01"), None),
        "rules": [_row(rule, rules, facts, equipment.states) for rule in rules],
    }


def _row(rule: FaultRule[Any], rules: Sequence[FaultRule[Any]], facts: Facts, states: Sequence[str]) -> dict[str, Any]:
    try:
        when: Program = True if rule.when is None else program(rule.when, facts, states)
        # what can never be asked need not have an answer: R18's own pressure, where none was learned
        conditions = (rule.raises, rule.clears) if when is not False else ()
        raises, clears = [program(condition, facts, states) for condition in conditions] or [False, False]
    except UntranslatableError as error:
        raise UntranslatableError(f"{rule.row}: {error}") from None
    return {
        "row": rule.row,
        "key": rule.key,
        "severity": int(rule.severity),
        "guarded": rule.guarded,
        "needs": list(rule.needs),
        "on_ms": int(rule.on_s * 1000),
        "off_ms": int(rule.off_s * 1000),
        "min_samples": rule.min_samples,
        "roots": [nth for nth, other in enumerate(rules) if other.key in rule.suppressed_by],
        "weighed": rule.weigh is not None,
        "when": when,
        "raises": raises,
        "clears": clears,
    }


def program(condition: Callable[[Any], bool], facts: Facts, states: Sequence[str]) -> Program:
    """The condition as a program. ``facts`` are fresh ones of the machine's card. Raises UntranslatableError."""
    try:
        tree = _Translator(facts, states).called(condition, [_FACTS])
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise UntranslatableError(f"what looks constant fails: {error!r}") from None
    return tree if isinstance(tree, bool) else _laid_out(tree)


# ------------------------------------------------------------------ conditions as trees


@dataclasses.dataclass(frozen=True, slots=True)
class _Compare:
    left: str
    sign: str
    right: float | tuple[str, str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class _Choice:
    """``then`` where ``test`` holds, ``other`` where not: ``and``, ``or``, ``not`` and ``if`` are all of this kind."""

    test: _Compare
    then: _Tree
    other: _Tree


_Tree = bool | _Compare | _Choice


def _choice(test: _Tree, then: _Tree, other: _Tree) -> _Tree:
    if isinstance(test, bool):
        return then if test else other
    if isinstance(then, bool) and then is other:
        return then
    if isinstance(test, _Compare):
        return test if then is True and other is False else _Choice(test, then, other)
    return _choice(test.test, _choice(test.then, then, other), _choice(test.other, then, other))


def _laid_out(tree: _Compare | _Choice) -> list[Test]:
    """The tests in a row, each before those it leads to; what occurs twice stands once."""
    order: dict[_Compare | _Choice, None] = {}

    def visit(node: _Tree) -> None:
        if isinstance(node, bool) or node in order:
            return
        if isinstance(node, _Choice):
            visit(node.other)
            visit(node.then)
        order[node] = None

    visit(tree)
    row = list(reversed(order))

    def to(node: _Tree) -> bool | int:
        return node if isinstance(node, bool) else row.index(node)

    def test(node: _Compare | _Choice) -> Test:
        choice = node if isinstance(node, _Choice) else _Choice(node, True, False)
        compare = choice.test
        right = list(compare.right) if isinstance(compare.right, tuple) else compare.right
        return [compare.left, compare.sign, right, to(choice.then), to(choice.other)]

    return [test(node) for node in row]


# ------------------------------------------------------------------ from Python's own tree


@dataclasses.dataclass(frozen=True, slots=True)
class _Known:
    value: Any


@dataclasses.dataclass(frozen=True, slots=True)
class _Figure:
    """A figure of the facts; ``how`` and ``by``: plus or times a constant."""

    slot: str
    how: str = ""
    by: float = 0.0


_FACTS = object()
"""Stands for the facts that a condition is asked of."""
_Value = _Known | _Figure

_SIGNS: Mapping[type[ast.cmpop], tuple[str, str, Callable[[Any, Any], bool]]] = {
    ast.Lt: ("<", ">", operator.lt),
    ast.LtE: ("<=", ">=", operator.le),
    ast.Gt: (">", "<", operator.gt),
    ast.GtE: (">=", "<=", operator.ge),
    ast.Eq: ("==", "==", operator.eq),
    ast.NotEq: ("!=", "!=", operator.ne),
}
"""Sign, sign with the sides exchanged, and what it means."""
_ARITHMETIC: Mapping[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.Pow: ("**", operator.pow),
}
_PURE: Mapping[str, Callable[..., Any]] = {"max": max, "min": min}


class _Translator:
    def __init__(self, facts: Facts, states: Sequence[str]) -> None:
        self._facts, self._states = facts, states
        self._scope: Mapping[str, Any] = {}

    def called(self, function: Callable[..., Any], arguments: Sequence[Any]) -> _Tree:
        """The condition that a function of one expression is, asked of these arguments."""
        if not isinstance(function, FunctionType):
            raise UntranslatableError(f"{function!r} is no function written in Python")
        parameters = list(inspect.signature(function).parameters.values())
        if len(parameters) != len(arguments):
            raise UntranslatableError(f"{function.__qualname__} has {len(parameters)} parameters")
        outer = self._scope
        closure = inspect.getclosurevars(function)
        self._scope = {
            **closure.builtins,
            **closure.globals,
            **closure.nonlocals,
            **{parameter.name: argument for parameter, argument in zip(parameters, arguments, strict=True)},
        }
        tree = self._condition(_body(function))
        self._scope = outer
        return tree

    def _condition(self, node: ast.expr) -> _Tree:
        match node:
            case ast.BoolOp(op=ast.And(), values=[*operands]):
                tree: _Tree = True
                for operand in reversed(operands):
                    tree = _choice(self._condition(operand), tree, False)
                return tree
            case ast.BoolOp(values=[*operands]):
                tree = False
                for operand in reversed(operands):
                    tree = _choice(self._condition(operand), True, tree)
                return tree
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _choice(self._condition(operand), False, True)
            case ast.IfExp(test=test, body=body, orelse=other):
                return _choice(self._condition(test), self._condition(body), self._condition(other))
            case ast.Compare(left=left, ops=signs, comparators=rights):
                tree = True
                sides = [self._value(side) for side in (left, *rights)]
                for nth in reversed(range(len(signs))):
                    tree = _choice(self._comparison(sides[nth], signs[nth], sides[nth + 1], node), tree, False)
                return tree
            case ast.Call(func=ast.Name(id=name), args=[*arguments], keywords=[]) if name not in _PURE:
                return self.called(self._scope.get(name, name), [self._argument(argument) for argument in arguments])
        match self._value(node):
            case _Known(value=bool(value)):
                return value
            case _Figure(slot=slot, how="") if type(self._sample(slot)) is bool:
                return _Compare(slot, "==", 1.0)
        raise _refused(node, "is no yes or no")

    def _comparison(self, left: _Value, sign: ast.cmpop, right: _Value, node: ast.expr) -> _Tree:
        match left, sign, right:
            case _, ast.IsNot(), _:
                return _choice(self._comparison(left, ast.Is(), right, node), False, True)
            case _, ast.NotIn(), _:
                return _choice(self._comparison(left, ast.In(), right, node), False, True)
            case _Figure(slot="state"), ast.NotEq(), _:
                return _choice(self._comparison(left, ast.Eq(), right, node), False, True)
            case _Known(a), ast.In(), _Known(b):
                return bool(a in b)
            case _Figure(slot=slot, how=""), ast.Is(), _Known(bool(value)) if self._is_flag(slot):
                return _Compare(slot, "==", float(value))
            case _Figure(slot=slot, how=""), ast.Is(), _Known(None) if self._is_flag(slot):
                return _Compare(slot, "!=", (slot, "+", 0.0))
            case _Figure(slot="state"), ast.In(), _Known(tuple(names)):
                tree: _Tree = False
                for name in reversed(names):
                    tree = _choice(self._comparison(left, ast.Eq(), _Known(name), node), True, tree)
                return tree
            case _Figure(slot="state"), ast.Eq(), _Known(str(name)):
                if name and name not in self._states:
                    raise _refused(node, f"speaks of a state {name!r} that the type does not have")
                return _Compare("state", "==", float(self._states.index(name)) if name else -1.0)
        if type(sign) not in _SIGNS:
            raise _refused(node, "compares in a way the core does not know")
        straight, exchanged, means = _SIGNS[type(sign)]
        match left, right:
            case _Known(a), _Known(b):
                return bool(means(a, b))
            case _Figure(slot=slot, how=""), _ if self._is_number(slot):
                return _Compare(slot, straight, self._right(right, node))
            case _, _Figure(slot=slot, how="") if self._is_number(slot):
                return _Compare(slot, exchanged, self._right(left, node))
        raise _refused(node, "compares in a way the core does not know")

    def _right(self, value: _Value, node: ast.expr) -> float | tuple[str, str, float]:
        match value:
            case _Known(float(number) | int(number)) if abs(number) < float("inf"):
                return float(number)
            case _Figure(slot=slot, how=how, by=by) if self._is_number(slot):
                return slot, how or "+", by
        raise _refused(node, "compares with what is no finite number")

    def _value(self, node: ast.expr) -> _Value:
        match node:
            case ast.Constant(value=value):
                return _Known(value)
            case ast.Name(id=name) if name in self._scope and self._scope[name] is not _FACTS:
                return _Known(self._scope[name])
            case ast.Attribute(value=ast.Name(id=name), attr=slot) if self._scope.get(name) is _FACTS:
                if slot in self._facts.CONSTANT:
                    return _Known(getattr(self._facts, slot))
                return _Figure(slot)
            case ast.Attribute(value=whole, attr=name):
                return _Known(getattr(self._known(whole), name))
            case ast.Subscript(value=whole, slice=key):
                return _Known(self._known(whole)[self._known(key)])
            case ast.Tuple(elts=parts):
                return _Known(tuple(self._known(part) for part in parts))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _Known(-self._known(operand))
            case ast.Call(func=ast.Name(id=name), args=[*arguments], keywords=[]) if name in _PURE:
                return _Known(_PURE[name](*(self._known(argument) for argument in arguments)))
            case ast.BinOp(left=a, op=how, right=b) if type(how) in _ARITHMETIC:
                sign, means = _ARITHMETIC[type(how)]
                match self._value(a), self._value(b):
                    case _Known(left), _Known(right):
                        return _Known(means(left, right))
                    case (_Figure(slot=slot, how=""), _Known(by)) | (_Known(by), _Figure(slot=slot, how="")) if (
                        sign in "+*"
                    ):
                        return _Figure(slot, sign, float(by))
        raise _refused(node, "has no form in the core")

    def _known(self, node: ast.expr) -> Any:
        value = self._value(node)
        if not isinstance(value, _Known):
            raise _refused(node, "is not known from the nameplate alone")
        return value.value

    def _argument(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name) and self._scope.get(node.id) is _FACTS:
            return _FACTS
        return self._known(node)

    def _sample(self, slot: str) -> Any:
        if not hasattr(self._facts, slot):
            raise UntranslatableError(f"the facts have no {slot}")
        return getattr(self._facts, slot)

    def _is_flag(self, slot: str) -> bool:
        return self._sample(slot) is None or type(self._sample(slot)) is bool

    def _is_number(self, slot: str) -> bool:
        return type(self._sample(slot)) in (float, int)


def _refused(node: ast.expr, why: str) -> UntranslatableError:
    return UntranslatableError(f"`{ast.unparse(node)}` {why}")


# ------------------------------------------------------------------ where a function was written


def _body(function: FunctionType) -> ast.expr:
    """The expression that the function returns. Raises UntranslatableError where it does more, or has no source."""
    name, code = function.__qualname__, function.__code__
    try:
        written = _written(inspect.getsource(sys.modules[function.__module__]))
    except (KeyError, OSError, TypeError):
        raise UntranslatableError(f"there is no source of {name}") from None
    found = [body for node, body in written if node.lineno == code.co_firstlineno and _is_of(node, body, code)]
    if len(found) != 1:
        raise UntranslatableError(
            f"{name} (line {code.co_firstlineno}) is not one expression that can be told from others"
        )
    return found[0]


@lru_cache
def _written(source: str) -> list[tuple[ast.Lambda | ast.FunctionDef, ast.expr]]:
    """All functions of a module that only return an expression."""
    found: list[tuple[ast.Lambda | ast.FunctionDef, ast.expr]] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Lambda(body=body):
                found.append((node, body))
            case ast.FunctionDef(body=[*docstring, ast.Return(value=ast.expr() as body)]):
                if not docstring or (len(docstring) == 1 and ast.get_docstring(node) is not None):
                    found.append((node, body))
    return found


def _is_of(node: ast.Lambda | ast.FunctionDef, body: ast.expr, code: CodeType) -> bool:
    """Whether ``code`` was compiled from ``node``; of several lambdas in one line, its columns tell which."""
    if isinstance(node, ast.FunctionDef):
        return node.name == code.co_name
    begin, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    places = [place for place in code.co_positions() if None not in place and place[2:] != (0, 0)]
    return bool(places) and all(
        begin <= (line or 0, column or 0) and (end_line or 0, end_column or 0) <= end
        for line, end_line, column, end_column in places
    )
