"""The Hugging Face Hub: what is published, downloaded, verified and refused."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hub_server import HubServer

from qamx.cli import main
from qamx.deploy import load_policy
from qamx.errors import UserError
from qamx.trained_policy import TrainedPolicy

DATA = Path(__file__).parents[1] / "data"
BUNDLE = DATA / "bundle"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub that a right token may write to, and an empty cache."""
    server = HubServer()
    server.replace_hub(monkeypatch, tmp_path)
    yield server
    server.close()


@pytest.fixture
def run(tmp_path):
    """The folder of a run with two checkpoints, which names a plugin."""
    folder = Path(shutil.copytree(DATA / "run_of_7e76995" / "stopped", tmp_path / "run"))
    config = folder / "config.toml"
    config.write_text(config.read_text().replace("corner_plugin", "hub_plugin"))
    (folder / "hub_plugin.py").write_text("raise SystemExit('imported')\n")
    return folder


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_exported_policy_arrives_as_it_was_sent(hub, tmp_path, capsys):
    assert main(["push", str(BUNDLE), "me/maze", "--license", "mit"]) == 0
    assert "qamx eval hf:me/maze" in capsys.readouterr().out
    assert main(["pull", "me/maze", "--out", str(tmp_path / "got")]) == 0
    assert "exported policy of qam in pointmaze-medium-navigate task 2, step 30" in (
        capsys.readouterr().out
    )
    got = files(tmp_path / "got")
    card = got.pop("README.md").decode()
    assert got == files(BUNDLE)
    fields, text = card.removeprefix("---\n").split("\n---\n", 1)
    assert "license: mit" in fields
    assert "library_name: qamx" in fields
    assert "value: 0.0" in fields
    # Of no success in 3 episodes: 1 - 0.025 ** (1 / 3) = 0.708.
    assert "| success | 0% of 3 episodes, 95% interval 0% to 71% |" in text
    for line in ("| seed | 10001, one run", "| licence | mit |", 'load_policy("hf:me/maze")'):
        assert line in text


def test_a_policy_is_loaded_by_its_address_and_from_the_cache(hub):
    assert main(["push", str(BUNDLE), "me/maze"]) == 0
    policy = load_policy("hf:me/maze")
    seen = np.zeros((1, 2), np.float32)
    np.testing.assert_array_equal(policy.act(seen, 0), load_policy(BUNDLE).act(seen, 0))
    hub.close()
    assert load_policy("hf:me/maze").metadata.policy["step"] == 30


def refused(*words, capsys):
    """The one line with which a command is refused."""
    capsys.readouterr()
    assert main([*map(str, words)]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_of_a_run_the_newest_checkpoint_is_published_and_no_code(hub, run, tmp_path, capsys):
    shutil.copytree(run / "checkpoints" / "63", run / "checkpoints" / "20")
    assert main(["push", str(run), "hf:me/corner"]) == 0
    there = hub.files["me/corner"]
    assert there.keys() == {
        *(f"checkpoints/63/{name}" for name in files(run / "checkpoints" / "63")),
        *("config.toml", "passport.json", "evaluations.jsonl", "metrics.jsonl", "README.md"),
    }
    card = there["README.md"].decode()
    assert 'TrainedPolicy.load("hf:me/corner")' in card
    assert "loading it imports Python code that does not come with it: hub_plugin" in card

    there["hub_plugin.py"] = b"raise SystemExit('imported')\n"
    said = refused("pull", "me/corner", "--out", tmp_path / "got", capsys=capsys)
    assert "does not come with it: hub_plugin; if you trust it, install it and write: " in said
    assert said.endswith("qamx pull me/corner --trust-code")
    assert not (tmp_path / "got").exists()
    assert "--trust-code" in refused("eval", "hf:me/corner", capsys=capsys)
    with pytest.raises(UserError, match="hub_plugin; if you trust it"):
        TrainedPolicy.load("hf:me/corner")

    assert main(["pull", "me/corner", "--out", str(tmp_path / "got"), "--trust-code"]) == 0
    assert files(tmp_path / "got") == {n: d for n, d in there.items() if n != "hub_plugin.py"}
    assert "hub_plugin" not in sys.modules


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.toml", 'plugins = ["evil"]', "does not come with it: evil;"),
        ("config.toml", '[environment]\nid = "gymnasium:evil:Reach-v0"', "come with it: evil;"),
        ("config.toml", 'extends = "checkpoints/evil.toml"', "config.toml: extends: not in a run"),
        ("experiment.toml", 'plugins = "evil"', "does not come with it: evil;"),
    ],
)
def test_an_address_that_names_code_is_refused(hub, capsys, name, content, said):
    """Also where the code is named in the file that is not looked at first."""
    hub.files["me/maze"] = files(BUNDLE) | {
        name: content.encode(),
        "evil.py": b"raise SystemExit('imported')",
    }
    assert said in refused("eval", "hf:me/maze", capsys=capsys)
    assert "evil" not in sys.modules


def test_a_card_that_was_edited_is_kept_and_old_checkpoints_are_not(hub, run, capsys):
    mine = {"README.md": b"mine", "checkpoints/9/manifest.json": b"{}", "notes.txt": b"mine"}
    hub.files["me/corner"] = dict(mine)
    assert main(["push", str(run), "me/corner"]) == 0
    assert "README.md is kept (--new-card replaces it)" in capsys.readouterr().out
    there = hub.files["me/corner"]
    assert (there["README.md"], there["notes.txt"]) == (b"mine", b"mine")
    assert "checkpoints/9/manifest.json" not in there
    assert main(["push", str(run), "me/corner", "--new-card"]) == 0
    assert b"# corner" in there["README.md"]


@pytest.mark.parametrize("name", ["weights.npz", "checkpoints/63/position.json"])
def test_a_damaged_file_is_found_and_nothing_is_left(hub, run, tmp_path, capsys, name):
    folder = BUNDLE if name == "weights.npz" else run
    assert main(["push", str(folder), "me/maze"]) == 0
    hub.files["me/maze"][name] = bytes(reversed(hub.files["me/maze"][name]))
    out = tmp_path / "new" / "got"
    assert name in refused("pull", "me/maze", "--out", out, "--trust-code", capsys=capsys)
    assert list(out.parent.iterdir()) == []


def test_a_folder_that_is_there_is_not_overwritten(hub, run, capsys):
    hub.files["me/maze"] = {}
    before = files(run)
    assert "exists already; name another" in refused("pull", "me/maze", "--out", run, capsys=capsys)
    assert files(run) == before
    assert hub.requests == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pull", "me/none"], "hf:me/none: no such repository on the Hub, or one that is not"),
        (["pull", "me/maze@v9"], "hf:me/maze: no such revision; name a branch, tag or commit"),
        (["pull", "me/"], 'found "me/"; write USER/NAME of a repository'),
        (["pull", "me/other"], "hf:me/other: neither a run (it has no config.toml) nor"),
        (["eval", "hf:me/none"], "hf:me/none: no such repository on the Hub"),
        (
            ["push", "RUN/checkpoints", "me/maze"],
            "neither a run (it has no config.toml) nor an exported",
        ),
    ],
)
def test_a_mistake_is_one_line(hub, run, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    hub.files |= {"me/maze": {}, "me/other": {"README.md": b"a model of another library"}}
    line = refused(*(word.replace("RUN", str(run)) for word in words), capsys=capsys)
    assert said in line
    assert not (tmp_path / "runs").exists() or list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_without_a_right_token_nothing_is_published(hub, monkeypatch, capsys, token):
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
    line = refused("push", BUNDLE, "me/maze", capsys=capsys)
    assert line.startswith("hf:me/maze: ")
    assert line.endswith("log in with `hf auth login`, or set HF_TOKEN")
    assert hub.files == {}


def test_without_a_connection_the_message_says_so(hub, tmp_path, capsys):
    hub.close()
    for words in (["pull", "me/maze", "--out", tmp_path / "got"], ["push", BUNDLE, "me/maze"]):
        assert "hf:me/maze: the Hub cannot be reached" in refused(*words, capsys=capsys)


@pytest.mark.parametrize("words", [["pull", "me/maze"], ["push", BUNDLE, "me/maze"]])
def test_without_the_library_the_message_says_what_to_install(monkeypatch, capsys, words):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    said = 'hf:me/maze: needs huggingface_hub: pip install -e ".[hub]"'
    assert refused(*words, capsys=capsys).startswith(said)
