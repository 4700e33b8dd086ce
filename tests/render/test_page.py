"""Lines, facts and tables; CSV; sizes; the progress bar; colours and notes."""

from __future__ import annotations

import errno
import io

import pytest

from zodbsh.render import progress
from zodbsh.render.csvtext import write_csv
from zodbsh.render.output import Output, OutputFailed, Rows, emit, report
from zodbsh.render.page import Page, Span
from zodbsh.render.progress import Bar, duration_text
from zodbsh.render.sizes import count_text, size_text


class Terminal(io.StringIO):
    """A stream that says a person looks at it."""

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")


def written(write, stream=None, **options):
    stream = stream if stream is not None else io.StringIO()
    write(Page(Output(stdout=stream, **options)))
    return stream.getvalue()


def test_a_line_is_one_line_and_no_dot_command():
    """Line feeds in data are escaped, a dot at the beginning too, wherever the pieces part."""
    assert written(lambda page: page.line("a\nb", Span("\x1bc", "red"))) == "a\\nb\\x1bc\n"
    assert written(lambda page: page.line("  ", ".abort")) == "  \\x2eabort\n"
    assert written(lambda page: page.lines("x\n.abort", indent="  ")) == "  x\n  \\x2eabort\n"


def test_colours_only_where_they_are_wanted(monkeypatch):
    """The option first, then NO_COLOR, FORCE_COLOR, the terminal."""

    def line(page):
        page.line(Span("x", "red"))

    red, plain = "\x1b[31mx\x1b[0m\n", "x\n"
    assert written(line) == plain
    assert written(line, Terminal()) == red
    assert written(line, color="always") == red
    assert written(line, Terminal(), color="never") == plain
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert written(line) == red
    monkeypatch.setenv("NO_COLOR", "1")
    assert written(line, Terminal()) == plain
    assert written(line, color="always") == red


def test_facts_are_aligned():
    """Names in one column, values in the next."""
    assert written(lambda page: page.facts([("size", "1 KB"), ("objects", "3")], indent=" ")) == (
        " size     1 KB\n objects  3\n"
    )


TABLE = Rows(
    ("class", "objects"),
    [("account.Account", 12345), ("日本.語", 7), ("x" * 100, None), (".hidden", True), ("a\nb", 0)],
)


def test_a_table_in_a_pipe_is_never_cut():
    """Columns are as wide as their content; wide characters count twice; numbers have separators."""
    long, escaped = "x" * 100, "a\\nb"
    assert written(lambda page: page.table(TABLE, right=("objects",))) == (
        f"{'class':100}  objects\n"
        f"{'account.Account':100}   12,345\n"
        f"日本.語{'':93}        7\n"
        f"{long}\n"
        f"\\x2ehidden{'':90}      yes\n"
        f"{escaped:100}        0\n"
    )


def test_a_table_on_a_terminal_folds_to_its_width():
    """Nothing is lost: the long cell goes on in the next line."""
    text = written(lambda page: page.table(TABLE, right=("objects",)), Terminal(), color="never")
    lines = text.splitlines()
    assert max(map(len, lines)) <= 40
    assert "".join(lines).replace(" ", "").count("x") == 100 + 1
    assert "[" not in text


def test_markup_in_data_is_data():
    """What rich would take for markup is shown as it is, on a terminal too."""
    rows = Rows(("a",), [("[red]x[/red] :smile:",)])
    assert "[red]x[/red] :smile:" in written(lambda page: page.table(rows), Terminal(), color="never")


def test_an_empty_table_has_its_headers():
    """No rows, no error."""
    assert written(lambda page: page.table(Rows(("a", "b"), []))) == "a  b\n"


def test_csv_rows_are_single_lines():
    """RFC 4180 quoting; a cell with a line feed stays on its line, a row that begins with a dot is quoted."""
    stream = io.StringIO()
    write_csv(Rows(("a", "b"), [("x,y", 1), ('say "x"', None), ("1\n2", True), (".abort", 0.5), ("\x1b", "ü")]), stream)
    assert stream.getvalue() == ('a,b\n"x,y",1\n"say ""x""",\n1\\n2,true\n".abort","0.5"\n\\x1b,ü\n')


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 KB"), (1500, "1.5 KB"), (9949, "9.9 KB"),
        (9960, "10 KB"), (999_499, "999 KB"), (999_600, "1.0 MB"), (230_000_000, "230 MB"), (73 * 10**9, "73 GB"),
        (5 * 10**15, "5,000 TB"),
    ],
)  # fmt: skip
def test_sizes(size, text):
    """Decimal units, two digits where they tell something."""
    assert size_text(size) == text


def test_counts():
    """Singular, plural, thousands."""
    assert [count_text(number, "object") for number in (0, 1, 12000)] == ["0 objects", "1 object", "12,000 objects"]
    assert count_text(2, "class", "classes") == "2 classes"


def test_the_bar_shows_share_rate_and_time_left(monkeypatch):
    """It is drawn a few times a second at most, and wiped at the end."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = Terminal()
    bar = Bar(stream)
    bar.start("reading", 400_000_000, "bytes")
    bar.advance(1)
    assert stream.getvalue() == ""
    now[0] += 1
    bar.advance(100_000_000)
    assert stream.getvalue() == "\r\x1b[2Kreading  [######..................]  25%  100 MB/s  0:03 left"
    bar.finish()
    assert stream.getvalue().endswith("\r\x1b[2K")
    assert duration_text(3723) == "1:02:03"


def test_a_bar_without_a_total_counts(monkeypatch):
    """Where nobody knows how much there is, the amount and the rate are shown."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = Terminal()
    bar = Bar(stream)
    bar.start("objects", None, "objects")
    now[0] = 2.0
    bar.advance(5000)
    assert stream.getvalue() == "\r\x1b[2Kobjects  5,000 objects  2,500 objects/s"


def test_progress_is_for_terminals_only():
    """In a pipe, and with --quiet, nothing is drawn."""
    for output in (Output(stderr=io.StringIO()), Output(stderr=Terminal(), quiet=True)):
        watcher = output.progress()
        watcher.start("x", 1, "bytes")
        watcher.advance(1)
        watcher.finish()
        assert output.err.getvalue() == ""
    assert isinstance(Output(stderr=Terminal()).progress(), Bar)


class One:
    def json(self):
        return {"a": 1}

    def rows(self):
        return Rows(("a",), [(1,)])

    def text(self, page):
        page.line("done")


def test_quiet_silences_reports_and_notes_but_no_result():
    """What was asked for is printed; what was done is not, unless a program asks; warnings always are."""

    def texts(act, **options):
        output = Output(stdout=io.StringIO(), stderr=io.StringIO(), **options)
        act(output)
        return output.out.getvalue(), output.err.getvalue()

    assert texts(lambda output: emit(One(), output), quiet=True) == ("done\n", "")
    assert texts(lambda output: report(One(), output), quiet=True) == ("", "")
    assert texts(lambda output: report(One(), output), quiet=True, format="json") == ('{\n  "a": 1\n}\n', "")
    assert texts(lambda output: output.note("n"), quiet=True) == ("", "")
    assert texts(lambda output: output.note("n\x1b")) == ("", "n\\x1b\n")
    assert texts(lambda output: output.warn("w"), quiet=True) == ("", "warning: w\n")


def test_a_full_disk_under_the_output_says_so():
    """It is the report that is lost, not the work."""

    class Full(io.StringIO):
        def flush(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputFailed, match="cannot write the output: No space left on device"):
        emit(One(), Output(stdout=Full()))
