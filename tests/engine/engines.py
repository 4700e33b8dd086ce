"""The engines that there are, and their answers in a form that can be compared."""

from __future__ import annotations

import importlib
import importlib.util

from zodbsh.engine import graph, twin
from zodbsh.engine.columns import DELETED

NATIVE = importlib.util.find_spec("zodbsh.engine._bulk") is not None


def passes():
    """Return the Pass of each engine by its name."""
    found = {"python": twin.Pass}
    if NATIVE:
        found["native"] = importlib.import_module("zodbsh.engine._bulk").Pass
    return found


def graphs():
    """Return the module of graph questions of each engine by its name."""
    found = {"python": graph}
    if NATIVE:
        found["native"] = importlib.import_module("zodbsh.engine._graph")
    return found


def scanners():
    """Return scan_record of each engine by its name."""
    found = {"python": twin.scan_record}
    if NATIVE:
        found["native"] = importlib.import_module("zodbsh.engine._scan").scan_record
    return found


def answer(columns):
    """Return everything that columns say, whatever numbers they give objects and classes."""
    objects = {}
    for number in range(len(columns)):
        assert columns.find(columns.oids[number]) == number
        references = [(columns.oids[target], weak) for target, weak in columns.references(number)]
        state = columns.classes[number] if columns.classes[number] >= DELETED else columns.class_name(number)
        objects[columns.oids[number]] = (columns.where[number], columns.sizes[number], state, references)
    assert len(objects) == len(columns)
    return {
        "objects": objects,
        "classes": {
            name: (records, size)
            for name, records, size in zip(columns.class_names, columns.class_records, columns.class_bytes, strict=True)
        },
        "tool_rows": columns.tool_rows,
        "totals": columns.totals,
        "undecodable": list(columns.undecodable),
        "dangled": (list(columns.dangled), columns.dangled_more),
        "previous": list(columns.odd_previous),
    }


def read(make, fd, size, options, **more):
    """Return what a pass says of a file: how far it came, its columns, the transactions that it went through."""
    rows = []
    taking = make(options)
    reached = taking.read(fd, 4, size, on_transactions=rows.extend, **more)
    return reached, answer(taking.finish()), rows
