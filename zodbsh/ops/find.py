"""``zodbsh find``: the objects that meet criteria, as they are found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.equality import TooCostly
from zodbsh.analysis.evaluate import Evaluation
from zodbsh.analysis.graph import ObjectGraph
from zodbsh.analysis.records import BrokenRecord
from zodbsh.analysis.target import trace
from zodbsh.analysis.trees import TreeDamaged
from zodbsh.engine import chosen
from zodbsh.engine.columns import WEAK, Options
from zodbsh.errors import ObjectNotFound, UsageError
from zodbsh.ids import oid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.record.decode import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zodbsh.analysis.evaluate import Result
    from zodbsh.analysis.expression import Node, Shown
    from zodbsh.source.snapshot import Snapshot

_NEAR_NAMES = 10_000
_TROUBLES = (BrokenRecord, ObjectNotFound, RecordError, TooCostly, TreeDamaged)


class Criteria(NamedTuple):
    """What an object has to meet; None and nothing are met by all.

    ``classes`` are patterns, of which one has to match; ``refers_to`` is a target; its record is ``larger`` than so
    many bytes; ``where`` is an expression (`zodbsh.analysis.expression`) that is true.
    """

    classes: tuple[str, ...] = ()
    refers_to: str | None = None
    larger: int | None = None
    where: Node | None = None


class Hit(NamedTuple):
    """An object that meets them; ``path`` is its oid where no path leads to it, None where none is wanted."""

    oid: int
    class_: str
    path: str | None
    values: tuple[Result, ...] = ()


class Trouble(NamedTuple):
    """An object that was left out because it cannot be looked at, and why."""

    oid: int
    reason: str


class Troubles:
    """The objects that were left out, counted; the first is kept."""

    def __init__(self) -> None:
        self.count = 0
        self.first: Trouble | None = None

    def add(self, trouble: Trouble) -> None:
        """Count one more."""
        self.count += 1
        self.first = self.first or trouble


class FindResult(NamedTuple):
    """The objects, found while they are taken; ``names`` are those of the values shown.

    ``class_names`` are the classes looked at, ``near`` those that resemble a pattern which matches none.
    """

    hits: Iterator[Hit]
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    near: tuple[tuple[str, tuple[str, ...]], ...]


def find(
    snapshot: Snapshot,
    criteria: Criteria = Criteria(),  # noqa: B008 - immutable
    *,
    show: Sequence[Shown] = (),
    limit: int | None = None,
    paths: bool = True,
    progress: Progress = SILENT,
    on_trouble: Callable[[Trouble], None] = lambda _: None,
) -> FindResult:
    """Find the objects that meet all criteria, in the order in which the database first has them.

    Classes, sizes and references are looked up in the columns of one pass; only what they leave is decoded. Raises
    what ``trace`` raises for ``refers_to``, UsageError where that is no object, and what ``Source.columns`` raises.
    """
    target = None if criteria.refers_to is None else _object(snapshot, criteria.refers_to)
    # Without references there is no graph, and the pass need not decode.
    engine = Options(references=paths or target is not None)
    graph = ObjectGraph(snapshot, snapshot.source.columns(snapshot.tid, options=engine, progress=progress))
    names = graph.columns.class_names
    wanted = bytes(_matches(name, criteria.classes) for name in names)
    found = _candidates(graph, wanted, -1 if criteria.larger is None else criteria.larger, target)
    hits = _hits(graph, found, criteria.where, show, paths, on_trouble)
    return FindResult(
        islice(hits, limit),
        tuple(shown.name for shown in show),
        tuple(name for name, flag in zip(names, wanted, strict=True) if flag),
        tuple(
            (pattern, _near(pattern, names))
            for pattern in criteria.classes
            if not any(_matches(name, (pattern,)) for name in names)
        ),
    )


def _object(snapshot: Snapshot, text: str) -> int:
    """Return the oid of a target, which need not exist."""
    target = trace(snapshot, text)
    if target.inside:
        raise UsageError(
            f"{target.path} is a value within {target.owner_path}: nothing refers to it",
            hint=f"Look for what refers to {target.owner_path}.",
        )
    return target.oid


def _candidates(graph: ObjectGraph, wanted: bytes, larger: int, target: int | None) -> Iterable[int]:
    """Return the numbers of the objects that meet what columns can tell, ascending."""
    columns = graph.columns
    selected = chosen.select(columns.classes, columns.sizes, wanted, larger)
    if target is None:
        return selected
    number = columns.find(target)
    if number is None:
        return ()
    referrers = chosen.referrers(columns.starts, columns.counts, columns.targets, number)
    return sorted({source & ~WEAK for source in referrers}.intersection(selected))


def _hits(
    graph: ObjectGraph,
    numbers: Iterable[int],
    where: Node | None,
    show: Sequence[Shown],
    paths: bool,
    on_trouble: Callable[[Trouble], None],
) -> Iterator[Hit]:
    columns = graph.columns
    for number in numbers:
        oid, class_ = columns.oids[number], columns.class_name(number)
        assert class_ is not None
        values: tuple[Result, ...] = ()
        if where is not None or show:
            evaluation = Evaluation(graph.snapshot, oid, class_, columns.sizes[number])
            try:
                if where is not None and not evaluation.holds(where):
                    continue
                values = tuple(evaluation.value(shown.node) for shown in show)
            except _TROUBLES as exc:
                on_trouble(Trouble(oid, exc.message))
                continue
        yield Hit(oid, class_, _path(graph, oid) if paths else None, values)


def _path(graph: ObjectGraph, oid: int) -> str:
    try:
        return graph.path(oid)
    except _TROUBLES:
        # What lies on the way is broken; whoever looks for objects does not ask for that.
        return oid_text(oid)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a class is one of those wanted: by its whole name, or by its last part where no dot is given."""
    last = name.rpartition(".")[2]
    return not patterns or any(
        fnmatchcase(name, pattern) or ("." not in pattern and fnmatchcase(last, pattern)) for pattern in patterns
    )


def _near(pattern: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return class names that resemble a pattern."""
    from zodbsh.near import near_names

    known: dict[str, str] = {}
    for name in islice(names, _NEAR_NAMES):
        known.setdefault(name if "." in pattern else name.rpartition(".")[2], name)
    return tuple(known[name] for name in near_names(pattern, known))
