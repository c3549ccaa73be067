"""docs/extending.md: each example, put into a copy of the repository as it is printed, does what it says, and without
one of its lines does not."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from PIL import Image

from helpers.places import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text()
TABLE = (ROOT / "CONTRIBUTING.md").read_text().split("| to add |")[1].split("\n\n")[0]
COPIED = "hpcauxvae", "hpo", "jobs", "pyproject.toml"
HERE = re.compile(r"\bin `(\w+)` of `([\w./-]+)`", re.IGNORECASE)
NEW = re.compile(r"`([\w./-]+\.\w+)`:$")
RUN = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


class Step(NamedTuple):
    """A block of the page: a file, lines of one, or what is run."""

    file: str
    """Empty where the block is run."""
    within: str
    """The table or function that the lines stand in; empty for a new file."""
    language: str
    text: str


def steps(section: str) -> list[Step]:
    found = []
    for block in re.finditer(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        language, text = block.groups()
        paragraph = section[: block.start()].strip().rpartition("\n")[2]
        if put := HERE.search(paragraph):
            found.append(Step(put[2], put[1], language, text))
        elif new := NEW.search(paragraph):
            found.append(Step(new[1], "", language, text))
        else:
            found.append(Step("", "", language, text))
    return found


def titled() -> dict[str, list[Step]]:
    preamble, *sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    return {"": steps(preamble)} | {text.partition("\n")[0]: steps(text) for text in sections}


SECTIONS = titled()
LINES = [(title, number) for title, found in SECTIONS.items() for number, step in enumerate(found) if step.within]


def put(folder: Path, step: Step) -> None:
    """Writes a new file, or lines behind that with which a table or function begins, imports before the first."""
    path = folder / step.file
    if not step.within:
        assert not path.exists(), f"{step.file} is there already"
        path.write_text(step.text)
        return
    old = path.read_text()
    imports = "".join(re.findall(r"^(?:from|import) .*\n", step.text, re.MULTILINE))
    lines = "".join(line for line in step.text.splitlines(keepends=True) if line not in imports)
    begin = rf"^{step.within}\b.*[({{'\[]$"
    text = re.sub(begin, lambda found: f"{found[0]}\n{lines.rstrip()}", old, count=1, flags=re.MULTILINE)
    assert text != old, f"{step.file} has no {step.within}"
    path.write_text(re.sub(r"^(?=from|import)", lambda _: imports, text, count=1, flags=re.MULTILINE))


def run(folder: Path, step: Step) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | {"PATH": path, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [*RUN[step.language], step.text]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240)


def does(folder: Path, title: str, without: int | None = None) -> str:
    """What the section's commands print when its files and lines are there; AssertionError where one fails."""
    printed = ""
    for number, step in enumerate(SECTIONS[title]):
        if step.file and number != without:
            put(folder, step)
        elif not step.file:
            done = run(folder, step)
            printed += done.stdout + done.stderr
            assert done.returncode == 0, printed
    return printed


@pytest.fixture(scope="session")
def copied(once: Callable) -> Path:
    """The repository, in which the first commands of the page were run. To copy."""

    def make(folder: Path) -> None:
        skipped = shutil.ignore_patterns("engine", "__pycache__")
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=skipped)
            else:
                shutil.copy(source, folder / name)
        does(folder, "")

    return once("extended", make)


@pytest.fixture
def copy(copied: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(copied, tmp_path / "copy", symlinks=True))


def metrics(folder: Path) -> dict:
    return json.loads((folder / "runs" / "squares" / "metrics.json").read_text())["sets"]["test"]


def page(folder: Path) -> str:
    return (folder / "runs" / "squares" / "report.html").read_text()


def of_score(folder: Path, printed: str) -> None:
    """The share of all pairs is in the interval of those that the metric takes."""
    score = metrics(folder)["codes"]["order"]
    with h5py.File(folder / "runs/squares/codes-test.h5") as file:
        names = [*file["factors"].attrs["name"]]
        u_ND, z_ND = file["factors"][:][:, [names.index("x"), names.index("y")]], file["mean"][:, :2]
    factor_NND, latent_NND = u_ND[:, None] - u_ND, z_ND[:, None] - z_ND
    whole_NN = (factor_NND != 0).all(2)
    assert score["low"] < (factor_NND * latent_NND > 0)[whole_NN].mean() < score["high"] < score["low"] + 0.5
    assert 10 < score["n"] <= 20 and ">Order <" in page(folder)


def of_picture(folder: Path, printed: str) -> None:
    pixels = np.asarray(Image.open(folder / "runs/squares/pictures/brightness-test.png").convert("RGB"), int)
    assert np.count_nonzero(pixels[..., 0] - pixels[..., 1] > 60) > 500
    assert "The mean pixel of each image, as it is and as it is drawn." in page(folder)


def trained(name: str, **wanted: object) -> Callable[[Path, str], None]:
    def check(folder: Path, printed: str) -> None:
        config = json.loads((folder / "runs" / name / "config.json").read_text())
        assert {key: (config | config["resolved_objective"])[key] for key in wanted} == wanted
        (row,) = map(json.loads, (folder / "runs" / name / "metrics.jsonl").read_text().splitlines())
        assert np.isfinite(row["validation"]["loss"])

    return check


def says(*words: str) -> Callable[[Path, str], None]:
    def check(folder: Path, printed: str) -> None:
        assert [word for word in words if word not in printed] == [], printed

    return check


CHECKS = {
    "A score of codes, and its sentence": of_score,
    "A measure of dependence": says("1.00, by chance", "0.00, by chance"),
    "A picture for the page": of_picture,
    "An objective": trained("unit", objective="unit", likelihood="gaussian", scale="standard", sigma=1.0),
    "A likelihood of pixels": trained("laplace", likelihood="laplace", sigma=0.5),
    "A network": trained("linear", network="linear"),
    "A data set": says("1797 images", "digit"),
    "An importer": says("200 images", "mass"),
    "A command": says("x: 0 to 1", "orientation: 0 to 6.28"),
    "A published run, and a table or figure": says("galaxies-case2-aux-vae-gaussian-0", "then: likelihoods"),
    "A cluster": says("sbatch", "--account=astro --partition=gpu"),
    "A setting of a job": says("note: after the power cut"),
}


def test_each_extension_has_its_example() -> None:
    """Each row of the table but those of models, which are in CONTRIBUTING.md itself, has a link to a section."""
    assert {*SECTIONS} == {"", *CHECKS}
    rows = [row for row in TABLE.splitlines()[2:] if "model" not in row.split("|")[1]]
    links = [re.search(r"\(docs/extending\.md#([\w-]+)\)", row) for row in rows]
    assert [row for row, link in zip(rows, links, strict=True) if link is None] == []
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in CHECKS}
    assert {link[1] for link in links if link} == anchors


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("title", CHECKS)
def test_the_example_works(title: str, copy: Path) -> None:
    CHECKS[title](copy, does(copy, title))
    new = [step.file for step in SECTIONS[title] if step.file.endswith(".py") and not step.within]
    for options in (["check"], ["format", "--check"]) if new else ():
        done = subprocess.run([sys.executable, "-m", "ruff", *options, *new], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize(("title", "number"), LINES)
def test_without_its_line_it_does_not(title: str, number: int, copy: Path) -> None:
    with pytest.raises((AssertionError, KeyError, FileNotFoundError)):
        CHECKS[title](copy, does(copy, title, without=number))
