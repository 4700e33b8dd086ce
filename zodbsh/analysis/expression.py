"""The language of ``find --where``, from text to a tree (docs/find.md); nothing is evaluated here.

    or         and ("or" and)*
    and        not ("and" not)*
    not        "not" not | comparison
    comparison operand (OPERATOR operand)* (("~" | "!~") STRING)?
               operand "is" "not"? ("missing" | "None" | "True" | "False")
    operand    primary ("." NAME | "[" LITERAL "]")*
    primary    LITERAL | NAME | ("len" | "has")? "(" or ")" | "(" LITERAL, ... ")" | "[" LITERAL, ... "]"

The reader's own recursion is bounded by `MAX_NESTING`, everything else by `MAX_EXPRESSION`.
"""

from __future__ import annotations

import re
import warnings
from typing import NamedTuple, NoReturn, TypeAlias

from zodbsh.analysis.keys import Attribute, Item, Key
from zodbsh.analysis.literal import TargetSyntaxError, read_literal
from zodbsh.errors import UsageError

MAX_EXPRESSION = 10_000
"""Longest expression that is read, in characters."""

MAX_NESTING = 30
"""Deepest nesting of parentheses, brackets and ``not``."""

MAX_PATTERN = 1_000
"""Longest regular expression, in characters."""

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[^\W\d]\w*")
_LITERAL = re.compile(r"""[bBuUrR]{0,2}['"]|-?\.?[0-9]""")
_SYMBOL = re.compile(r"==|!=|!~|<=|>=|[<>~()\[\].,]")
_CONSTANTS: dict[str, Key] = {"None": None, "True": True, "False": False}
_RESERVED = frozenset(("and", "or", "not", "in", "is", "None", "True", "False", "missing"))
_COMPARISONS = frozenset(("==", "!=", "<", "<=", ">", ">="))
_SHOWN = 60
_HINT = "An expression compares attributes with values: balance > 10 and owner.name == 'Ada'. See docs/find.md."
_LOOKALIKES = {
    "=": "Two objects are compared with ==.", "&": "Write `and`.", "|": "Write `or`.", "!": "Write `not`, or !=.",
    "+": "There is no arithmetic.", "-": "There is no arithmetic.", "*": "There is no arithmetic.",
    "/": "There is no arithmetic.", "%": "There is no arithmetic.",
    "'": "The string does not end.", '"': "The string does not end.", "{": "Write a list: in ['a', 'b'].",
}  # fmt: skip


class ExpressionError(UsageError):
    """An expression cannot be read; the message shows where."""

    code = "expression-syntax"


class Literal(NamedTuple):
    """A value that stands in the expression: a scalar, a tuple or a list of literals."""

    value: Key | list[Key]


class Path(NamedTuple):
    """Steps from ``base``; None is the object itself."""

    base: Node | None
    steps: tuple[Attribute | Item, ...]


class Not(NamedTuple):
    """``not operand``."""

    operand: Node


class All(NamedTuple):
    """Operands joined by ``and``."""

    operands: tuple[Node, ...]


class AnyOf(NamedTuple):
    """Operands joined by ``or``."""

    operands: tuple[Node, ...]


class Comparison(NamedTuple):
    """``first operator operand operator operand ...``: true where each pair is, as in Python."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


class Pattern(NamedTuple):
    """The right side of ``~`` and ``!~``, compiled for text and for bytes (None: it has no form for these)."""

    text: re.Pattern[str] | None
    raw: re.Pattern[bytes] | None


class Is(NamedTuple):
    """``operand is what``: ``missing``, None, True or False."""

    operand: Node
    missing: bool
    value: Key
    negated: bool


class Length(NamedTuple):
    """``len(operand)``."""

    operand: Node


class Has(NamedTuple):
    """``has(operand)``."""

    operand: Node


Node: TypeAlias = "Literal | Path | Not | All | AnyOf | Comparison | Pattern | Is | Length | Has"


class Shown(NamedTuple):
    """An expression whose value is shown, under its own text."""

    name: str
    node: Node


def parse_expression(text: str, *, option: str = "the expression") -> Node:
    """Read one expression; ``option`` names it in errors. Raises ExpressionError and nothing else."""
    reader = _Reader(text, option)
    node = reader.alternative()
    if not reader.at_end():
        reader.fail("an operator (==, <, in, ~, and, ...) or the end belongs here")
    return node


def parse_shown(text: str, *, option: str = "the expression") -> list[Shown]:
    """Read expressions separated by commas. Raises ExpressionError and nothing else."""
    reader = _Reader(text, option)
    found = []
    while True:
        reader.skip()
        start = reader.position
        node = reader.alternative()
        found.append(Shown(" ".join(text[start : reader.position].split()), node))
        if not reader.take(","):
            break
    if not reader.at_end():
        reader.fail("a comma or the end belongs here")
    return found


class _Reader:
    def __init__(self, text: str, option: str) -> None:
        self.position = 0
        self._text = text
        self._option = option
        self._nesting = 0
        if len(text) > MAX_EXPRESSION:
            raise ExpressionError(f"{option} has {len(text):,} characters; at most {MAX_EXPRESSION:,} are read")

    def skip(self) -> None:
        """Go to the next character that is no white space."""
        match = _SPACE.match(self._text, self.position)
        assert match is not None
        self.position = match.end()

    def at_end(self) -> bool:
        """Tell whether nothing is left."""
        self.skip()
        return self.position >= len(self._text)

    def take(self, token: str) -> bool:
        """Take a word or a symbol if it comes next."""
        if self._peek() != token:
            return False
        self.position += len(token)
        return True

    def alternative(self) -> Node:
        """Read operands joined by ``or``."""
        operands = [self._conjunction()]
        while self.take("or"):
            operands.append(self._conjunction())
        return operands[0] if len(operands) == 1 else AnyOf(tuple(operands))

    def fail(self, reason: str, position: int | None = None, hint: str = "") -> NoReturn:
        """Raise the error that shows where: a line of the expression, and a caret below."""
        self.skip()
        place = self.position if position is None else position
        start = max(0, place - _SHOWN // 2)
        line = "".join(char if char.isprintable() else " " for char in self._text[start : start + _SHOWN])
        before, after = ("..." if start else ""), ("..." if start + _SHOWN < len(self._text) else "")
        caret = " " * (len(before) + place - start) + "^"
        hint = hint or _LOOKALIKES.get(self._text[place : place + 1], _HINT)
        raise ExpressionError(
            f"{self._option}, character {place + 1}: {reason}",
            hint=hint,
            context=f"    {before}{line}{after}\n    {caret}",
        )

    def _peek(self) -> str:
        """Return the next word or symbol; empty where neither comes next."""
        self.skip()
        match = _NAME.match(self._text, self.position) or _SYMBOL.match(self._text, self.position)
        return "" if match is None else match[0]

    def _conjunction(self) -> Node:
        operands = [self._negation()]
        while self.take("and"):
            operands.append(self._negation())
        return operands[0] if len(operands) == 1 else All(tuple(operands))

    def _negation(self) -> Node:
        if self.take("not"):
            self._enter()
            operand = self._negation()
            self._nesting -= 1
            return Not(operand)
        return self._comparison()

    def _comparison(self) -> Node:
        first = self._operand()
        rest: list[tuple[str, Node]] = []
        while True:
            start = self.position
            operator = self._operator()
            if not operator:
                return Comparison(first, tuple(rest)) if rest else first
            if rest and (operator == "is" or rest[-1][0].endswith("~")):
                self.fail("join these comparisons with `and`", start)
            if operator == "is":
                return self._test(first)
            rest.append((operator, self._pattern() if operator.endswith("~") else self._operand()))

    def _operator(self) -> str:
        word = self._peek()
        if word in _COMPARISONS or word in ("~", "!~", "in", "is"):
            self.position += len(word)
            return word
        if self.take("not"):
            if not self.take("in"):
                self.fail("`in` belongs behind `not` here")
            return "not in"
        return ""

    def _test(self, operand: Node) -> Node:
        negated = self.take("not")
        word = self._peek()
        if word != "missing" and word not in _CONSTANTS:
            self.fail("missing, None, True or False belongs behind `is`", hint="Values are compared with ==.")
        self.position += len(word)
        self.skip()
        start = self.position
        if self._operator():
            self.fail("join these comparisons with `and`", start)
        return Is(operand, word == "missing", _CONSTANTS.get(word), negated)

    def _pattern(self) -> Pattern:
        self.skip()
        start = self.position
        operand = self._operand()
        pattern = operand.value if isinstance(operand, Literal) else None
        if not isinstance(pattern, str | bytes):
            self.fail("a regular expression is a string: name ~ 'A.*'", start)
        if len(pattern) > MAX_PATTERN:
            self.fail(f"a regular expression has at most {MAX_PATTERN:,} characters", start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if isinstance(pattern, bytes):
                    return Pattern(None, re.compile(pattern))
                text = re.compile(pattern)
            except (re.error, RecursionError, OverflowError, ValueError) as exc:
                reason = str(exc) if isinstance(exc, re.error) else "it is too large or too deep"
                self.fail(f"not a regular expression: {reason}", start, "It is Python's syntax.")
            try:
                return Pattern(text, re.compile(pattern.encode()))
            except (re.error, ValueError):
                return Pattern(text, None)

    def _operand(self) -> Node:
        node = self._primary()
        steps: list[Attribute | Item] = []
        while True:
            if self.take("."):
                steps.append(Attribute(self._name()))
            elif self.take("["):
                steps.append(Item(self._scalar()))
                self._close("]")
            else:
                break
        if not steps:
            return node
        if isinstance(node, Path):
            return Path(node.base, (*node.steps, *steps))
        return Path(node, tuple(steps))

    def _primary(self) -> Node:
        word = self._peek()
        if _LITERAL.match(self._text, self.position) or word in _CONSTANTS:
            return Literal(self._scalar())
        if word == "(":
            return self._parenthesis()
        if word == "[":
            self.position += 1
            return Literal(self._literals("]"))
        if word in _RESERVED or not word or not _NAME.match(word):
            self.fail("a name or a value belongs here")
        self.position += len(word)
        if word in ("len", "has") and self.take("("):
            self._enter()
            operand = self.alternative()
            self._close(")")
            self._nesting -= 1
            if word == "has":
                return Has(operand)
            return Length(operand)
        if self._peek() == "(":
            self.fail(f"there is no function {word}", self.position - len(word), "The functions are len and has.")
        return Path(None, () if word == "self" else (Attribute(word),))

    def _parenthesis(self) -> Node:
        self.position += 1
        self._enter()
        if self.take(")"):
            self._nesting -= 1
            return Literal(())
        self.skip()
        start = self.position
        node = self.alternative()
        if self._peek() == ",":
            if not isinstance(node, Literal):
                self.fail("a tuple holds values only", start)
            self.position += 1
            node = Literal((node.value, *self._literals(")")))  # type: ignore[arg-type]
        else:
            self._close(")")
        self._nesting -= 1
        return node

    def _literals(self, closing: str) -> list[Key]:
        """Read literals separated by commas, and the bracket behind them."""
        self._enter()
        found: list[Key] = []
        while not self.take(closing):
            self.skip()
            start = self.position
            operand = self._operand()
            if not isinstance(operand, Literal):
                self.fail("a list or a tuple holds values only", start)
            found.append(operand.value)  # type: ignore[arg-type]
            if not self.take(","):
                self._close(closing)
                break
        self._nesting -= 1
        return found

    def _scalar(self) -> Key:
        self.skip()
        text, start = self._text, self.position
        if not _LITERAL.match(text, start) and self._peek() not in (*_CONSTANTS, "("):
            self.fail("a string, a number, None, True or False belongs here")
        try:
            value, self.position = read_literal(text, start)
        except TargetSyntaxError:
            self.fail("this string or number cannot be read", start)
        if isinstance(value, int | float) and _NAME.match(text, self.position):
            self.fail("a number ends here", hint="A name does not begin with a digit.")
        return value

    def _name(self) -> str:
        self.skip()
        match = _NAME.match(self._text, self.position)
        if match is None:
            self.fail("an attribute's name belongs behind the dot", hint="Any other name: self['front-page'].")
        self.position = match.end()
        return match[0]

    def _close(self, bracket: str) -> None:
        if not self.take(bracket):
            self.fail(f"a {bracket} is missing")

    def _enter(self) -> None:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            self.fail(f"nested more than {MAX_NESTING} deep")
