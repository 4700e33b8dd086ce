"""What Tab offers, and what offering it costs: no property runs, eight loads at most."""

from __future__ import annotations

import sys
import types

import pytest

from zodbsh.shell.chain import at_cursor
from zodbsh.shell.completer import candidates
from zodbsh.shell.completion import LOADS, complete


def offer(shell, before, after=""):
    found = complete(before, after, shell.evaluator.namespace, connection=shell.session.connection)
    return [before[: len(before) - item.replaces] + item.text for item in found]


def names(shell, before, after=""):
    namespace = shell.evaluator.namespace
    return [item.text for item in complete(before, after, namespace, connection=shell.session.connection)]


def test_names(shell):
    """Names of the session come first, then Python's."""
    assert offer(shell, "ro") == ["root", "round"]
    assert offer(shell, "x = conn") == ["x = connection"]
    assert "def" in names(shell, "de")
    assert names(shell, "") == []


def test_root_entries_by_attribute_and_by_key(shell):
    """Entries that are identifiers are attributes, all text entries are keys."""
    assert names(shell, "root.acc") == ["accounts", "account"]
    assert offer(shell, "root['acc") == ["root['accounts']", "root['account']"]
    assert offer(shell, 'root["od') == ['root["odd \\x1b[31m key"]']
    assert offer(shell, "connection.root().acc") == []
    assert offer(shell, "root()['pla") == ["root()['plain']"]


def test_attributes_come_from_the_instance_and_its_class(shell):
    """Attributes, methods and properties are listed; the property does not run."""
    assert names(shell, "root.account.") == ["balance", "deposit", "owner", "tags", "trap"]
    assert names(shell, "root.account.owner.ba") == ["balance"]
    assert names(shell, "root.account.tags.app") == ["append"]
    assert names(shell, "root.account._p_ser") == ["_p_serial"]
    assert names(shell, "root.account.trap.") == []


def test_no_code_of_a_class_runs(shell):
    """__getattr__ and __dir__ raise in this class, and are not asked."""
    assert names(shell, "root.rude.") == ["word"]
    assert names(shell, "root.rude.nothing.") == []


def test_keys_of_a_btree_by_range_scan(shell, count_loads):
    """At most fifty keys with the prefix come, in order, for at most eight loads."""
    loads = count_loads(shell)
    found = offer(shell, "root.accounts['19")
    assert found[:3] == ["root.accounts['19']", "root.accounts['190']", "root.accounts['1900']"]
    assert len(found) == 50
    assert all(key.startswith("root.accounts['19") for key in found)
    assert loads.count <= LOADS


@pytest.mark.parametrize(
    "before", ["root.accounts['", "root.accounts[", "root.numbers[", "root.numbers[1", "root.accounts['zzz"]
)
def test_completion_never_loads_more_than_its_budget(shell, count_loads, before):
    """Whatever is typed, a tree of 20,000 keys costs a handful of loads."""
    loads = count_loads(shell)
    assert len(names(shell, before)) <= 50
    assert loads.count <= LOADS


def test_budget_ends_completion_within_a_chain(shell, count_loads, monkeypatch):
    """A chain that would need more loads than the budget offers nothing, and loads no more."""
    monkeypatch.setattr("zodbsh.shell.completion.LOADS", 2)
    loads = count_loads(shell)
    assert names(shell, "root.accounts['5'].owner.") == []
    assert loads.count <= 2


def test_integer_keys(shell):
    """Digits find integer keys that begin with them, a minus the negative ones."""
    assert names(shell, "root.numbers[19999") == ["19999]"]
    assert names(shell, "root.numbers[123")[:3] == ["123]", "1230]", "1231]"]
    assert names(shell, "root.numbers[-5") == ["-5]", "-50]"]
    assert names(shell, "root.numbers[-")[:2] == ["-50]", "-49]"]
    assert names(shell, "root.plain[7") == ["7]"]


def test_keys_of_dicts_in_any_constant_form(shell):
    """Without a quote every key that can be written is offered; with one, the texts."""
    assert names(shell, "root.plain[") == ["'k']", "7]", "b'raw']", "('a', 1)]"]
    assert names(shell, "root.plain['") == ["k']"]
    assert names(shell, "root.plain[b'") == ["raw']"]
    assert names(shell, "root.plain['k']['d") == ["deep']"]
    assert names(shell, "root.plain[('a', 1)].re") == ["real"]


def test_what_stands_behind_the_cursor_is_not_repeated(shell):
    """A closing quote or bracket that is there already is not inserted again."""
    assert names(shell, "root['pla", "']") == ["plain"]
    assert names(shell, "root['pla", "]") == ["plain'"]


def test_completing_a_ghost_loads_that_object_only(shell, count_loads):
    """Attributes of a ghost cost one load: its own."""
    shell.evaluator.namespace["a"] = account = shell.session.root.account
    loads = count_loads(shell)
    assert "balance" in names(shell, "a.")
    assert loads.oids == [int.from_bytes(account._p_oid, "big")]


def test_completion_changes_nothing(shell):
    """Completing makes nothing dirty."""
    for before in ("root.", "root.account.", "root['", "root.rude.", "root.writing."):
        names(shell, before)
    assert shell.session.dirty_count() == 0


def test_stand_in_offers_the_names_in_its_record(make_shell):
    """Without classes the attributes that a record holds are offered."""
    shell = make_shell(no_import=True)
    assert {"balance", "owner", "tags"} <= set(names(shell, "root['account']."))


@pytest.mark.parametrize(
    ("text", "kind", "prefix"),
    [
        ("", "name", ""),
        ("a", "name", "a"),
        ("a.b", "attribute", "b"),
        ("f(a.b", "attribute", "b"),
        ("f(x).b", "nothing", ""),
        ("a[i].b", "nothing", ""),
        ("a['x'].b", "attribute", "b"),
        ("a[-1].", "attribute", ""),
        ("a['b", "key", "b"),
        ("a[12", "key", "12"),
        ("a[-", "key", "-"),
        ("'a['b", "name", "b"),
        ("# a.b", "nothing", ""),
        ("'text a.b", "nothing", ""),
        ("f'{a.b", "nothing", ""),
        ("'''a[", "nothing", ""),
        ("x = '''long'''; a.b", "attribute", "b"),
        ("1.", "nothing", ""),
        ("a['it\\'s", "key", "it\\'s"),
        ("a[b'raw", "key", "raw"),
        ("(a).b", "nothing", ""),
        ("a.b ", "name", ""),
    ],
)
def test_what_the_cursor_asks_for(text, kind, prefix):
    """Only chains of names, attributes and constants are followed."""
    cursor = at_cursor(text)
    assert (cursor.kind, cursor.prefix) == (kind, prefix)


def test_import_statements_offer_modules(shell, tmp_path, monkeypatch):
    """Names of modules that could be imported, none of which is; members of a module once it is loaded."""
    (tmp_path / "zz_package").mkdir()
    (tmp_path / "zz_package" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "zz_package" / "inner.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    texts = lambda before: [item.text for item in candidates(shell, before)]  # noqa: E731
    assert texts("import zz_") == ["zz_package"]
    assert texts("import sys, zz_") == ["zz_package"]
    assert texts("from zz_") == ["zz_package"]
    assert texts("from zz_package import ") == []
    assert texts("import zz_package.") == []
    assert "zip" not in texts("import z")
    assert {"zipfile", "zlib"} <= set(texts("import z"))
    assert "zz_package" not in sys.modules
    assert texts("from bank import Acc") == ["Account"]
    loaded = types.ModuleType("zz_package")
    loaded.__path__ = [str(tmp_path / "zz_package")]
    monkeypatch.setitem(sys.modules, "zz_package", loaded)
    assert texts("import zz_package.in") == ["zz_package.inner"]
    assert texts("from zz_package import i") == ["inner"]


def test_attributes_are_identifiers(shell):
    """A name that no dot can be followed by is left out."""
    shell.evaluator.namespace["odd"] = odd = types.SimpleNamespace(fine=1)
    vars(odd)["weird attr"] = 2
    assert [item.text for item in candidates(shell, "odd.")] == ["fine"]


def test_slash_targets_are_completed(shell):
    """A target is completed as it is begun."""
    assert [item.text for item in candidates(shell, ".inspect /acc")] == ["/accounts", "/account"]
    assert [item.text for item in candidates(shell, ".inspect /account/bal")] == ["/account/balance"]
