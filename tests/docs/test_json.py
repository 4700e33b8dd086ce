"""The JSON of every command has the shape that docs/json.md gives."""

from __future__ import annotations

import json
import re
from pathlib import Path

import program
import pytest

ROOT = Path(__file__).resolve().parents[2]
# What these hold is a decoded value: any JSON.
VALUES = {
    "state", "old", "new", "before", "after", "now", "base", "theirs", "ours", "argument", "extension",
}  # fmt: skip
# These keys come only where they say something.
OPTIONAL = {"missing", "parts", "text"}


def documented() -> dict[str, object]:
    """Return each section's example by its heading."""
    text = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    return {
        heading: json.loads(example)
        for heading, example in re.findall(
            r"^## ([^\n]+)\n(?:(?!^## ).)*?```json\n(.*?)```", text, re.DOTALL | re.MULTILINE
        )
    }


def shape(data: object, name: str = "") -> object:
    """Return the keys and types of a document: what its readers rely on."""
    if name in VALUES:
        return "value"
    if isinstance(data, dict):
        return {key: shape(value, key) for key, value in data.items() if key not in OPTIONAL}
    if isinstance(data, list):
        return [shape(item) for item in data]
    return "null" if data is None else type(data).__name__


def differences(found: object, wanted: object, where: str = "") -> list[str]:
    """Compare two shapes; null fits everything, an empty list every list."""
    if "null" in (found, wanted):
        return []
    if isinstance(found, dict) and isinstance(wanted, dict):
        faults = [f"{where}: {sorted(found.keys() ^ wanted.keys())}"] if found.keys() != wanted.keys() else []
        for key in found.keys() & wanted.keys():
            faults += differences(found[key], wanted[key], f"{where}.{key}")
        return faults
    if isinstance(found, list) and isinstance(wanted, list):
        return [fault for item in found for fault in differences(item, wanted[0], f"{where}[]")] if wanted else []
    return [] if found == wanted else [f"{where}: {found} for {wanted}"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Run the tutorial once and keep every command's JSON by the heading in the document."""
    folder = tmp_path_factory.mktemp("json")
    examples = str(ROOT / "examples")

    def zodbsh(*args, status=0, of_stderr=True):
        done = program.zodbsh(*args, "--format", "json", cwd=folder)
        assert done.returncode == status, done.stderr
        return json.loads(done.stderr if status and of_stderr else done.stdout)

    deposit = ("run", "a.fs", "-p", examples, "-m", "account", "-c", "root.accounts['account-1'].deposit(5)")
    target = "root.accounts['account-1']"
    found = {"init": zodbsh("init", "a.fs", "--root", "other=BTrees.OOBTree.OOBTree")}
    zodbsh("run", "a.fs", "-p", examples, f"{examples}/open_accounts.py", "--commit")
    found["run"] = zodbsh(*deposit)
    found["status"] = zodbsh("status", "a.fs")
    found["diff"] = zodbsh("diff", "a.fs")
    found["abort"] = zodbsh("abort", "a.fs", "-y")
    zodbsh(*deposit)
    found["commit"] = zodbsh("commit", "a.fs")
    found["inspect DATABASE"] = zodbsh("inspect", "a.fs")
    found["inspect DATABASE TARGET"] = zodbsh("inspect", "a.fs", target)
    found["log"] = zodbsh("log", "a.fs")
    found["log DATABASE TARGET"] = zodbsh("log", "a.fs", target)
    found["show"] = zodbsh("show", "a.fs", found["commit"]["tid"])
    found["usage"] = zodbsh("usage", "a.fs")
    for by in ("path", "transaction", "month", "user"):
        found[f"usage --by {by}"] = zodbsh("usage", "a.fs", "--by", by)
    found["refs"] = zodbsh("refs", "a.fs", target)
    found["why"] = zodbsh("why", "a.fs", target)
    found["find"] = zodbsh("find", "a.fs", "--class", "Account", "--show", "balance")
    found["verify"] = zodbsh("verify", "a.fs", "--write-manifest", "a.manifest")
    zodbsh(*deposit)
    # Somebody else commits meanwhile, who knows nothing of the stage.
    (folder / "a.fs.stage").rename(folder / "aside")
    zodbsh(*deposit, "--commit")
    (folder / "aside").rename(folder / "a.fs.stage")
    found["commit that conflicts"] = zodbsh("commit", "a.fs", status=5, of_stderr=False)
    zodbsh("abort", "a.fs", "-y")
    found["undo that conflicts"] = zodbsh("undo", "a.fs", found["commit"]["tid"], status=5, of_stderr=False)
    found["undo DATABASE TID..."] = zodbsh("undo", "a.fs", zodbsh("log", "a.fs")[0]["tid"])
    found["undo --after"] = zodbsh("undo", "a.fs", "--after", found["commit"]["tid"])
    found["undo --redo"] = zodbsh("undo", "a.fs", "--redo")
    found["backup"] = zodbsh("backup", "a.fs", "backups")
    found["backup --list"] = zodbsh("backup", "--list", "backups")
    found["backup --verify"] = zodbsh("backup", "--verify", "backups")
    found["restore"] = zodbsh("restore", "backups", "restored.fs")
    damaged = (folder / "a.fs").read_bytes()
    (folder / "damaged.fs").write_bytes(damaged[:-60])
    found["recover"] = zodbsh("recover", "damaged.fs", "recovered.fs", status=1, of_stderr=False)
    found["pack"] = zodbsh("pack", "a.fs", "-y")
    found["Errors"] = zodbsh("inspect", "no.fs", status=3)
    return found


@pytest.mark.parametrize("heading", sorted(documented()))
def test_shape(outputs, heading):
    """Keys and types of the real output are those of the example, no more and no less."""
    assert heading in outputs, "an example that no run produces"
    assert differences(shape(outputs[heading]), shape(documented()[heading]), heading) == []


def test_every_run_has_its_example(outputs):
    """Nothing is produced that the document does not show."""
    assert sorted(outputs) == sorted(documented())
