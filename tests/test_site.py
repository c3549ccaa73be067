"""The site: built without a warning, with every page, command, option and picture; the course runs as it stands."""

import importlib.util
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from helpers.places import ROOT
from hpcauxvae.cli import COMMANDS

PROSE, COURSE = ROOT / "docs" / "prose.py", ROOT / "docs" / "course.py"
pytestmark = pytest.mark.skipif(find_spec("myst_nb") is None, reason="the site is not made here: pip install '.[docs]'")


def built(pages: Path, site: Path) -> subprocess.CompletedProcess:
    """As `make docs` does it."""
    options = "--fail-on-warning", "--keep-going", "--quiet"
    command = [sys.executable, "-m", "sphinx", *options, str(pages), str(site)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """docs/ in a folder of as many levels."""
    subprocess.run(["cp", "-r", ROOT / "docs", tmp_path / "docs"], check=True)
    (tmp_path / "pages").mkdir()
    (tmp_path / "docs").rename(tmp_path / "pages" / "docs")
    (tmp_path / "results").symlink_to(ROOT / "results")
    return tmp_path / "pages" / "docs"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(pages: Path, tmp_path: Path) -> None:
    done = built(pages, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    names = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    assert [name for name in names if not (site / name).exists()] == []
    for name in COMMANDS:
        assert f"hpcauxvae {name}" in (site / "commands" / f"{name}.html").read_text()
    train = re.sub("<[^>]+>", "", (site / "commands" / "train.html").read_text())
    assert "--dependence-tolerance" in train and "--batch-size" in train
    assert "--kind" in (site / "commands" / "data.html").read_text()
    assert "regularizer" in (site / "reference" / "dependence.html").read_text()
    assert (site / "searchindex.js").stat().st_size > 100_000
    remote = re.findall(r"""(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?))""", (site / "index.html").read_text())
    assert remote == []


@pytest.mark.slow
def test_a_link_that_leads_nowhere_is_refused(pages: Path, tmp_path: Path) -> None:
    with (pages / "faq.md").open("a") as page:
        page.write("\n[nowhere](nowhere.md)\n")
    done = built(pages, tmp_path / "site")
    assert done.returncode != 0 and "nowhere" in done.stderr


def test_long_sentences_are_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nShort. " + "word " * 45 + "end.\n\n| a | b |\n|---|---|\n| " + "cell " * 60 + "| |\n")
    done = subprocess.run([sys.executable, PROSE, page], capture_output=True, text=True)
    assert done.returncode == 1 and "46 words" in done.stdout and "cell" not in done.stdout
    page.write_text("Short. " + "word " * 44 + "end, and\n")
    assert subprocess.run([sys.executable, PROSE, page], capture_output=True).returncode == 1
    page.write_text(("word " * 24 + "end. ") * 3)
    assert subprocess.run([sys.executable, PROSE, page], capture_output=True).returncode == 0


def test_the_course_is_as_long_as_it_says() -> None:
    """The pages that run are those of its table of contents, and the front page counts them."""
    spec = importlib.util.spec_from_file_location("course", COURSE)
    course = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(course)
    index = (ROOT / "docs" / "course" / "index.md").read_text()
    listed = re.findall(r"^\d-[\w-]+$", index, re.MULTILINE)
    assert [page.stem for page in course.COURSE] == listed
    steps = f"ourse in {['five', 'six', 'seven'][len(listed) - 5]} steps"
    assert steps in index and steps in (ROOT / "README.md").read_text()


@pytest.mark.processes
@pytest.mark.timeout(3000)
def test_the_course_runs(tmp_path: Path) -> None:
    """Every block of its pages, and every picture that they show is there in the end."""
    folder = tmp_path / "made"
    command = [sys.executable, str(COURSE), str(folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for page in (ROOT / "docs" / "course").glob("[1-9]-*.md"):
        shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())
        assert [name for name in shown if not (folder / "course" / name).exists()] == [], page.name
        assert [name for name in shown if not (page.parent / name).exists()] == [], page.name


@pytest.mark.processes
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", ["survey", "series"])
def test_a_page_from_files_to_predictions_runs(name: str, tmp_path: Path) -> None:
    """Every block of it, from an empty folder on; what it shows is what was printed."""
    pytest.importorskip("galsim", reason="galsim is not installed: pip install 'hpcauxvae[simulate]'")
    page, folder = ROOT / "docs" / f"{name}.md", tmp_path / "made"
    command = [sys.executable, str(COURSE), str(folder), str(page)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())
    assert shown and [picture for picture in shown if not (folder / name / picture).exists()] == []
    assert [picture for picture in shown if not (page.parent / picture).exists()] == []
    assert page.read_text().count("```text") >= 4


PRINTED = """
```bash
printf 'score   value\\n  lds   0.6098  [0.57, 0.66]\\nread: 12 images\\n'
```

```text
  lds  0.6102 [0.57, 0.66]
...
read: 12 ...
```
"""


@pytest.mark.parametrize(
    ("shown", "other"),
    [("0.6102", "0.9102"), ("lds", "sap"), ("12 ...", "13 ..."), ("12 ...", "12"), ("[0.57, 0.66]", ""), ("", "")],
)
def test_what_a_page_shows_must_have_been_printed(shown: str, other: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    commands, text = PRINTED.split("```text")
    page.write_text("```text".join([commands, text.replace(shown, other) if shown else text]))
    done = subprocess.run([sys.executable, COURSE, tmp_path / "made", page], capture_output=True, text=True)
    as_printed = not shown or other == "13 ..."  # which is 12, to a tenth
    assert (done.returncode == 0) == as_printed, done.stdout + done.stderr
    assert as_printed or "page.md shows what was not printed" in done.stderr


def test_sentences_of_before_and_after_are_taken_out_of_the_pages(tmp_path: Path) -> None:
    """A page of git and the same page now: what is counted, and the sentence to its end."""
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("README.md | The way | The way / It ends\n")
    folder = tmp_path / "repository"
    (folder / "docs").mkdir(parents=True)
    for name in ("prose.py", "prose_since.py"):
        (folder / "docs" / name).write_text((ROOT / "docs" / name).read_text())
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@y.z"]
    (folder / "README.md").write_text("# Title\n\nThe way\nis long, by eq. (4); and it ends here. Next one.\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"], ["tag", "then"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    (folder / "README.md").write_text("# Title\n\n**The way is long.** It ends here.\n")
    command = [sys.executable, folder / "docs" / "prose_since.py", "then", sentences]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| README.md | 2 | 6.5 | 11 | 2 | 3.5 | 4 |" in done.stdout
    assert "| The way is long, by eq. (4); and it ends here. | The way is long. It ends here. |" in done.stdout
    sentences.write_text("README.md | The road | The way\n")
    assert subprocess.run(command, capture_output=True).returncode != 0
