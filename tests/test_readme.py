"""README.md says what is there: its tree is the repository's, its commands are those that exist and that CI runs."""

import importlib.util
import re
import subprocess
from pathlib import Path

from helpers.places import ROOT
from hpcauxvae.cli import COMMANDS

README = (ROOT / "README.md").read_text()
FILE_NAME = r"[\w.-]+\.(?:py|md|cpp|cu|h|sh)\b"


def tree() -> dict[str, str]:
    """Path, folders with a slash at the end, to its purpose."""
    block = README.split("## The tree")[1].split("\n\n")[1]
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


def test_every_file_has_its_place_in_the_tree() -> None:
    paths = tree()
    parents = {path for path in paths if any(other.startswith(path) and other != path for other in paths)}
    for path in tracked():
        folder = next((p for p in paths if p.endswith("/") and p not in parents and path.startswith(p)), None)
        if Path(path).name == "__init__.py":
            continue
        assert path in paths or folder, f"{path} is not in the tree of README.md"
        if folder and path.startswith("hpcauxvae/") and Path(path).name != "__main__.py":
            assert Path(path).name in paths[folder], f"{path} is not named in the line of {folder}"


def test_the_tree_gives_purposes() -> None:
    for path, purpose in tree().items():
        if path.startswith(("hpcauxvae/", "csrc/")) and path not in ("hpcauxvae/", "csrc/"):
            assert purpose, f"{path} has no purpose"


def test_commands_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert (
        {"demo", "test", "test-all"}
        <= set(re.findall(r"(?:^    |[;`] ?)make ([\w-]+)", README, re.MULTILINE))
        <= targets
    )
    assert set(re.findall(r"(?:^    |`)hpcauxvae (\w+)", README, re.MULTILINE)) <= set(COMMANDS)
    for module in re.findall(r"-m (hpcauxvae[\w.]*)", README):
        assert importlib.util.find_spec(module), module


def test_ci_runs_the_tests_as_the_readme_does() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^make ([\w-]+)$", ci, re.MULTILINE) == ["lint", "test", "test-all"]


def test_every_document_that_is_named_exists() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for path in re.findall(r"`((?:docs|tests|hpcauxvae|csrc|jobs|benchmarks)/[\w./-]+\w)`", page.read_text()):
            if "NAME" not in path:
                assert (ROOT / path).exists(), f"{page.name} names {path}"
