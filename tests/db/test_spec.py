"""What a DATABASE argument names."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from zodbsh.db.spec import Spec, parse_spec
from zodbsh.db.zconfig import ConfigError
from zodbsh.errors import DatabaseNotFound, UsageError

MAGIC = b"FS30"


@pytest.fixture
def fs(tmp_path):
    path = tmp_path / "Data.fs"
    path.write_bytes(MAGIC)
    return str(path)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Write the user's config file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "zodbsh"
    folder.mkdir(parents=True)
    monkeypatch.setattr("platformdirs.user_config_dir", lambda *_args, **_more: str(folder))
    return folder / "config.toml"


def test_a_path_is_a_file(fs):
    assert parse_spec(fs) == Spec(fs, "file", path=fs)


@pytest.mark.parametrize("content", [b"", b"FS", b"FS21", b"\x89PNG\0<zodb>\n", b"plain text\n"])
def test_whatever_is_no_configuration_is_a_file(tmp_path, content):
    """The reader says what is wrong with it; here it is only named."""
    path = tmp_path / "x"
    path.write_bytes(content)
    assert parse_spec(str(path)).kind == "file"


def test_memory():
    assert parse_spec(":memory:") == Spec(":memory:", "memory")


def test_a_missing_path_offers_near_ones(tmp_path, fs):
    (tmp_path / "Data.fs.index").write_bytes(b"")
    with pytest.raises(DatabaseNotFound) as caught:
        parse_spec(str(tmp_path / "Date.fs"))
    assert caught.value.message == f"{tmp_path}/Date.fs: no such file"
    assert caught.value.hint == f"Did you mean {fs}?"
    assert sorted(os.listdir(tmp_path)) == ["Data.fs", "Data.fs.index"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DatabaseNotFound) as caught:
        parse_spec(str(tmp_path / "no" / "Data.fs"))
    assert caught.value.hint == f"There is no folder {tmp_path}/no."


def test_a_folder_is_no_database(tmp_path, fs):
    with pytest.raises(DatabaseNotFound) as caught:
        parse_spec(str(tmp_path))
    assert (caught.value.message, caught.value.hint) == (
        f"{tmp_path}: is a folder, not a database",
        f"There is {fs}.",
    )


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatabaseNotFound, match="no regular file"):
        parse_spec(str(tmp_path / "pipe"))


def test_a_file_uri_is_the_file(fs):
    """So it is read and written like any file."""
    assert parse_spec(f"file://{fs}") == Spec(f"file://{fs}", "file", path=fs)
    blobs = parse_spec(f"file://{fs}?blobstorage_dir=/blobs&read_only=1")
    assert (blobs.blob_dir, blobs.read_only) == ("/blobs", True)


def test_a_file_uri_creates_nothing(tmp_path):
    with pytest.raises(DatabaseNotFound):
        parse_spec(f"file://{tmp_path}/new.fs?create=1")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "uri", ["zeo://localhost:9991", "memory://x", "demo:(memory://a)/(memory://b)", "postgres://h/d"]
)
def test_a_uri_is_left_to_zodburi(uri):
    assert parse_spec(uri) == Spec(uri, "uri", uri=uri)


ZOPE_CONF = """
%define INSTANCE {folder}
instancehome $INSTANCE
http-address 8080
debug-mode on

<eventlog>
  level info
</eventlog>

<zodb_db main>
    # Main database
    cache-size 30000
    <filestorage>
      path $INSTANCE/Data.fs
    </filestorage>
    mount-point /
</zodb_db>

<zodb_db temporary>
    <temporarystorage>
      name temporary storage for sessioning
    </temporarystorage>
    mount-point /temp_folder
    container-class Products.TemporaryFolder.TemporaryContainer
</zodb_db>
<zodb_db catalog>
    <blobstorage>
      blob-dir {folder}/blobs
      <filestorage>
        path Catalog.fs
      </filestorage>
    </blobstorage>
    mount-point /catalog
</zodb_db>
"""


@pytest.fixture
def zope_conf(tmp_path, fs):
    (tmp_path / "Catalog.fs").write_bytes(MAGIC)
    path = tmp_path / "zope.conf"
    path.write_text(ZOPE_CONF.format(folder=tmp_path))
    return str(path)


def test_zope_conf_names_its_first_database(zope_conf, fs):
    """Directives that only Zope knows do not matter; a plain FileStorage is a file."""
    spec = Spec(zope_conf, "file", path=fs, name="main", others=("temporary", "catalog"))
    assert parse_spec(zope_conf) == spec


def test_a_name_picks_one(zope_conf, tmp_path):
    """A path that is not absolute is read from where the configuration stands."""
    found = parse_spec(zope_conf + "#catalog")
    assert (found.kind, found.path, found.blob_dir) == ("file", f"{tmp_path}/Catalog.fs", f"{tmp_path}/blobs")
    assert (found.name, found.others) == ("catalog", ())
    assert parse_spec(f"zconfig://{zope_conf}#catalog").path == f"{tmp_path}/Catalog.fs"


def test_any_other_storage_keeps_its_configuration(zope_conf):
    """Without the keys that ZODB's own schema does not have."""
    found = parse_spec(zope_conf + "#temporary")
    assert (found.kind, found.path, found.name) == ("zconfig", zope_conf, "temporary")
    assert found.config == (
        "<zodb temporary>\n  <temporarystorage>\n    name temporary storage for sessioning\n"
        "  </temporarystorage>\n</zodb>\n"
    )


@pytest.mark.parametrize("text", ["zeo://", "zeo:///", "zeo://?wait_timeout=1"])
def test_a_server_has_a_name(text):
    """It is not waited for nothing."""
    with pytest.raises(UsageError, match="no server is named"):
        parse_spec(text)


def test_a_name_that_is_not_there_lists_the_others(zope_conf):
    with pytest.raises(ConfigError) as caught:
        parse_spec(zope_conf + "#mian")
    assert caught.value.hint == "It has: catalog, main, temporary."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<zodb>\n", "unclosed sections"),
        ("<a>\n</b>\n", "unbalanced section end"),
        ("<zodb>\n  <filestorage>\n path $nothing\n </filestorage>\n</zodb>", "line 3: no replacement for 'nothing'"),
        ("<cache>\n</cache>\n", "no <zodb> section"),
        ("%include http://example.com/x\n<zodb>\n</zodb>\n", "only local files"),
    ],
)
def test_a_configuration_that_makes_no_sense(tmp_path, text, message):
    path = tmp_path / "x.conf"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        parse_spec(str(path))


def test_an_included_file_is_read(tmp_path, fs):
    (tmp_path / "inner.conf").write_text(f"%define DATA {fs}\n")
    (tmp_path / "x.conf").write_text(
        "%include inner.conf\n<zodb>\n<filestorage>\npath $DATA\n</filestorage>\n</zodb>\n"
    )
    assert parse_spec(str(tmp_path / "x.conf")).path == fs


def test_includes_in_a_circle_end(tmp_path):
    (tmp_path / "x.conf").write_text("%include x.conf\n<zodb>\n</zodb>\n")
    with pytest.raises(ConfigError, match="more than 50 included files"):
        parse_spec(str(tmp_path / "x.conf"))


def test_a_configured_file_that_is_missing_is_an_error(tmp_path):
    """ZODB would create it."""
    (tmp_path / "x.conf").write_text(f"<zodb>\n<filestorage>\npath {tmp_path}/no.fs\n</filestorage>\n</zodb>\n")
    with pytest.raises(DatabaseNotFound):
        parse_spec(str(tmp_path / "x.conf"))
    assert os.listdir(tmp_path) == ["x.conf"]


def test_a_name_from_the_config_file(config, fs):
    config.write_text(f'[databases]\nshop = "{fs}"\n')
    assert parse_spec("shop") == Spec("shop", "file", path=fs)


def test_near_names_are_offered(config, fs, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config.write_text(f'[databases]\nshop = "{fs}"\n')
    with pytest.raises(DatabaseNotFound) as caught:
        parse_spec("shpo")
    assert caught.value.hint == "Did you mean shop?"


@pytest.mark.parametrize("text", ["[databases", "databases = 3", "[databases]\nx = 3"])
def test_a_config_file_that_makes_no_sense(config, text):
    config.write_text(text)
    with pytest.raises(UsageError, match=r"config\.toml"):
        parse_spec("shop")


def test_naming_imports_no_zodb(zope_conf):
    """A reading command stays fast."""
    code = (
        "import sys; from zodbsh.db.source import open_source; from zodbsh.db.spec import parse_spec\n"
        f"parse_spec({zope_conf!r})\n"
        "print([name for name in ('ZODB', 'persistent', 'transaction', 'BTrees') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_ending_alone_makes_no_name_near(tmp_path):
    """``b.fs`` is not what was meant by ``a.fs``; ``data.fs`` may be meant by ``data``."""
    for name in ("b.fs", "data.fs"):
        (tmp_path / name).write_bytes(b"")
    hints = []
    for name in ("a.fs", "no.fs", "data"):
        with pytest.raises(DatabaseNotFound) as caught:
            parse_spec(str(tmp_path / name))
        hints.append(caught.value.hint)
    assert hints == [DatabaseNotFound.hint, DatabaseNotFound.hint, f"Did you mean {tmp_path}/data.fs?"]
