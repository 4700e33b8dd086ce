"""Questions by class over columns: objects of classes, who refers to them, who is within its own group."""

from array import array

from zodbsh.engine.chosen import of_classes, referring_to_classes, within_groups
from zodbsh.engine.columns import DELETED, MISSING, NONE, WEAK

# Objects 0 to 5; 0 -> 1, 2; 1 -> 1; 2 -> 3 weakly; 3 -> 5; 4 -> 0; object 5 does not exist, 4 was deleted.
CLASSES = array("I", [0, 0, 1, 2, DELETED, MISSING])
STARTS = array("Q", [0, 2, 3, 4, 5, 6])
COUNTS = array("I", [2, 1, 1, 1, 1, 0])
TARGETS = array("I", [1, 2, 1, 3 | WEAK, 5, 0])


def test_objects_of_classes():
    """What exists and is of a wanted class, in ascending order."""
    assert list(of_classes(CLASSES, bytes([1, 0, 1]))) == [0, 1, 3]


def test_who_refers_to_classes():
    """An object counts once; weak references and objects that do not exist do not."""
    assert list(referring_to_classes(CLASSES, STARTS, COUNTS, TARGETS, bytes([1, 1, 1]), bytes([1, 1, 1]))) == [0, 1]
    assert list(referring_to_classes(CLASSES, STARTS, COUNTS, TARGETS, bytes([1, 0, 0]), bytes([0, 1, 0]))) == [0]


def test_who_is_within_its_group():
    """An edge between objects of one group counts, also from an object to itself; NONE is no group."""
    groups = array("I", [7, 7, NONE])
    assert list(within_groups(CLASSES, STARTS, COUNTS, TARGETS, groups)) == [0, 1, 1, 0, 0, 0]
