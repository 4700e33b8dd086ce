"""The engine that runs: the native one where it was built, else its Python twin.

``ZODBSH_ENGINE=python`` in the environment chooses the twin.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

__all__ = [
    "ENGINE",
    "Certifier",
    "Pass",
    "children",
    "compare",
    "components",
    "copy_later",
    "copy_packed",
    "dangling",
    "distances",
    "dominators",
    "index_parts",
    "of_classes",
    "reach",
    "referrers",
    "referring_to_classes",
    "retained",
    "reverse",
    "scan_record",
    "select",
    "sums",
    "survey",
    "within_groups",
]  # fmt: skip

if TYPE_CHECKING or os.environ.get("ZODBSH_ENGINE") == "python":
    NATIVE = False
else:
    try:
        from zodbsh.engine import _bulk, _graph, _pack, _scan, _trees

        NATIVE = True
    except ImportError:
        NATIVE = False

ENGINE = "native" if NATIVE else "python"

Certifier: Any = None
"""What tells without Python that a BTree is sound; None where the engine is not native."""

if TYPE_CHECKING or not NATIVE:
    from zodbsh.engine.graph import (
        children,
        components,
        dangling,
        distances,
        dominators,
        of_classes,
        reach,
        referrers,
        referring_to_classes,
        retained,
        reverse,
        select,
        sums,
        within_groups,
    )  # fmt: skip
    from zodbsh.engine.packing import compare, copy_later, copy_packed, index_parts, survey
    from zodbsh.engine.twin import Pass, scan_record
else:
    Certifier = _trees.Certifier
    Pass = _bulk.Pass
    scan_record = _scan.scan_record
    children, components, dangling, distances = _graph.children, _graph.components, _graph.dangling, _graph.distances
    dominators, of_classes, reach, referrers = _graph.dominators, _graph.of_classes, _graph.reach, _graph.referrers
    referring_to_classes, retained, reverse = _graph.referring_to_classes, _graph.retained, _graph.reverse
    compare, copy_later, copy_packed = _pack.compare, _pack.copy_later, _pack.copy_packed
    index_parts, survey = _pack.index_parts, _pack.survey
    select, sums, within_groups = _graph.select, _graph.sums, _graph.within_groups
