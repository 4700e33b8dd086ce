"""The JSON encoder."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zodbsh.render.jsontext import dumps, value_json, write_json, write_ndjson

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(JSON, st.sampled_from([None, 2]))
@settings(max_examples=200, deadline=None)
def test_what_is_written_reads_back_equal(data, indent):
    """Python's own parser reads every document back as it was, indented or not."""
    assert json.loads(dumps(data, indent=indent)) == data


def test_a_document_is_indented_by_two():
    """The indented form is Python's, except that empty containers stay on their line as there."""
    data = {"a": [1, {"b": []}, {}], "c": "x"}
    assert dumps(data, indent=2) == json.dumps(data, indent=2) + "\n"


def test_a_compact_document_is_one_line():
    """Without indentation the form is Python's compact one."""
    data = {"a": [1, None, True, 1.5], "b": {}}
    assert dumps(data) == json.dumps(data)


def test_unsafe_characters_are_escaped_and_all_others_are_not():
    """What would act on a terminal is written as an escape and still reads back exactly."""
    text = "ü日\x1b\x9b\u202e\u2028\U000e0041\ud800"
    written = dumps(text)
    assert written == '"ü日\\u001b\\u009b\\u202e\\u2028\\udb40\\udc41\\ud800"'
    assert json.loads(written) == text


def test_a_deep_value_is_no_recursion():
    """A value nested 100,000 deep is written without Python's stack."""
    value: list = []
    for _ in range(100_000):
        value = [value]
    assert dumps(value_json(value)) == "[" * 100_001 + "]" * 100_001


def test_a_value_that_holds_itself_ends():
    """A cycle is written as the number of levels up to the value it is."""
    value: list = [1]
    value.append([value])
    assert json.loads(dumps(value_json(value))) == [1, [{"@cycle": 2}]]


def test_a_shared_value_is_written_at_each_place():
    """Sharing is no cycle."""
    shared = [1]
    assert json.loads(dumps(value_json([shared, shared]))) == [[1], [1]]


def test_a_value_that_unfolds_without_end_is_left_out():
    """Lists that hold the one before ten times: the document ends, is JSON, and says how large they would be."""
    bomb: list = [1]
    for _ in range(60):
        bomb = [bomb] * 10
    text = "x" * 1_000_000
    data = {"a": value_json(bomb), "b": value_json([1, 2]), "c": value_json([text] * 1_000)}
    found = json.loads(dumps(data))
    assert found["b"] == [1, 2]
    assert found["a"]["@large"] > 10**60
    assert found["c"]["@large"] > 10**7


def test_a_document_repeats_no_more_than_a_value_may():
    """Many values that are each just small enough are not, together."""
    shared = [[0] * 1_000] * 500
    found = json.loads(dumps([value_json(shared) for _ in range(10)]))
    assert [isinstance(value, list) for value in found] == [True] * 2 + [False] * 8


def test_a_large_value_that_shares_nothing_is_written():
    """However many parts it has."""
    assert len(json.loads(dumps(value_json([[number] for number in range(150_000)])))) == 150_000


def test_a_float_that_is_no_number_is_still_json():
    """NaN and the infinities have a marker; JSON has no word for them."""
    data = [float("nan"), float("inf"), float("-inf"), 0.1]
    assert json.loads(dumps(data)) == [{"@float": "NaN"}, {"@float": "Infinity"}, {"@float": "-Infinity"}, 0.1]


def test_an_iterable_streams_as_an_array():
    """A generator is a list, in both forms of output."""
    stream = io.StringIO()
    write_json((number for number in range(2)), stream)
    assert stream.getvalue() == "[\n  0,\n  1\n]\n"


def test_ndjson_is_one_line_an_item():
    """A list's items come one to a line, anything else is one line."""
    stream = io.StringIO()
    write_ndjson([{"a": 1}, {"a": [2]}], stream)
    write_ndjson({"b": 1}, stream)
    assert stream.getvalue() == '{"a": 1}\n{"a": [2]}\n{"b": 1}\n'


def test_what_is_no_json_is_an_error():
    """An object without a JSON form is a bug that shows at once."""
    with pytest.raises(TypeError, match="no JSON for object"):
        dumps(object())
