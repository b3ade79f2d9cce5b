"""The lock file and the container files against the project that they install."""

import itertools
import re
from pathlib import Path

import pytest
import tomli

ROOT = Path(__file__).parents[2]
PROJECT = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "uv.lock").read_text()
RECIPES = {name: (ROOT / name).read_text() for name in ("Dockerfile", "apptainer.def")}


def requirement(text: str) -> str:
    return re.match(r"[\w-]+", text)[0].lower().replace("_", "-")  # pyright: ignore


def test_the_lock_is_of_these_dependencies():
    """`uv lock` writes it anew where this fails."""
    (locked,) = (p for p in tomli.loads(LOCK)["package"] if p["name"] == PROJECT["name"])
    extras = PROJECT["optional-dependencies"]
    texts = itertools.chain(PROJECT["dependencies"], *extras.values())
    found = {entry["name"] for entry in locked["metadata"]["requires-dist"]}
    assert found == {requirement(text) for text in texts}
    assert set(locked["metadata"]["provides-extras"]) == set(extras)


def test_the_lock_names_public_addresses_alone():
    hosts = set(re.findall(r"https?://[^/\"]+", LOCK))
    assert hosts == {"https://pypi.org", "https://files.pythonhosted.org"}
    assert set(re.findall(r'registry = "([^"]+)"', LOCK)) == {"https://pypi.org/simple"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_copies_what_is_there_and_what_the_wheel_takes(name):
    copies = {
        "Dockerfile": r"^COPY (.+) \S+$",
        "apptainer.def": r"^    (\S+) /opt/qamx/\S+$",
    }[name]
    files = {file for line in re.findall(copies, RECIPES[name], re.M) for file in line.split()}
    assert files == {"pyproject.toml", "uv.lock", "README.md", "LICENSE", "experiments", "qamx"}
    assert all((ROOT / file).exists() for file in files)
    kept = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.M))
    assert kept == files


def test_the_recipes_name_extras_that_exist_and_one_version_of_uv():
    text = "\n".join(RECIPES.values())
    named = set(re.findall(r"(?:--extra |EXTRA=)(\w+)", text))
    assert named
    assert named <= PROJECT["optional-dependencies"].keys()
    assert len(set(re.findall(r"uv==\S+", text))) == 1
