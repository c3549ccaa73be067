"""README.md and CONTRIBUTING.md say what is there: the tree is the repository's, commands exist, CI runs them."""

import importlib.util
import re
import subprocess

from helpers.places import ROOT
from hpcauxvae.cli import COMMANDS

README = (ROOT / "README.md").read_text()
TO_BE_WRITTEN = ROOT / "docs" / "extending.md"
"""Names files and a command that its reader makes; test_extending.py does."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *({*(ROOT / "docs").glob("*.md")} - {TO_BE_WRITTEN})]
FILE_NAME = r"[\w.-]+\.(?:py|md|cpp|cu|h|sh)\b"


def tree() -> dict[str, str]:
    """Path, folders with a slash at the end, to its purpose."""
    block = (ROOT / "CONTRIBUTING.md").read_text().split("## The tree")[1].split("\n\n")[1]
    found, folder = {}, ""
    for line in block.splitlines():
        names, _, purpose = line.strip().partition("  ")
        top = not line.startswith(" " * 6)
        for name in names.split(" "):
            found[name if top else folder + name] = purpose.strip()
        if top:
            folder = names
    return found


def tracked() -> list[str]:
    """The files of the repository; those not yet added too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [path for path in listed if (ROOT / path).exists()]


def test_every_path_of_the_tree_exists() -> None:
    for path, purpose in tree().items():
        assert (ROOT / path).is_dir() if path.endswith("/") else (ROOT / path).is_file(), path
        if path.endswith("/"):
            for name in re.findall(FILE_NAME, purpose):
                assert (ROOT / path / name).is_file(), f"{path}{name}"


def test_every_folder_has_its_place_in_the_tree() -> None:
    """And every file of the top; the files of a folder are for `ls`."""
    paths = tree()
    for path in tracked():
        top, _, rest = path.partition("/")
        if path.startswith(".ci/"):
            assert path in paths
        elif rest:
            assert f"{top}/" in paths, f"{path} has no folder in the tree of CONTRIBUTING.md"
        else:
            assert path in paths, f"{path} is not in the tree of CONTRIBUTING.md"
        if top == "hpcauxvae" and "/" in rest:
            assert f"{top}/{rest.partition('/')[0]}/" in paths, f"{path} has no folder in the tree of CONTRIBUTING.md"


def test_the_tree_gives_purposes() -> None:
    assert all(purpose for purpose in tree().values())


def test_commands_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert (
        {"demo", "test", "test-all"}
        <= set(re.findall(r"(?:^    |[;`] ?)make ([\w-]+)", README, re.MULTILINE))
        <= targets
    )
    for page in [*PAGES, *(ROOT / "jobs").glob("*.*"), ROOT / "Makefile"]:
        text = page.read_text()
        assert set(re.findall(r"(?:^    |`|-m )hpcauxvae (\w+)", text, re.MULTILINE)) <= set(COMMANDS), page.name
        for module in re.findall(r"-m ((?:hpcauxvae|hpo)[\w.]*)", text):
            assert importlib.util.find_spec(module), f"{page.name}: {module}"
            if module not in ("hpcauxvae", "hpo.search"):
                assert importlib.util.find_spec(f"{module}.__main__"), f"{page.name}: {module} cannot be run"


def test_ci_runs_the_tests_as_the_readme_does() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^make ([\w-]+)$", ci, re.MULTILINE) == ["engine", "lint", "test", "test-all"]


def test_every_document_that_is_named_exists() -> None:
    for page in PAGES:
        for path in re.findall(r"`((?:docs|tests|hpcauxvae|csrc|jobs|benchmarks)/[\w./-]+\w)`", page.read_text()):
            if "NAME" not in path:
                assert (ROOT / path).exists(), f"{page.name} names {path}"
