"""The two descriptions of a container: what they install is there, and the same in both."""

import re
import tomllib

from helpers.places import ROOT

FILES = [(ROOT / "jobs" / name).read_text() for name in ("Containerfile", "hpcauxvae.def")]


def test_both_install_the_same() -> None:
    apt = [re.search(r"--no-install-recommends[\s\\]+([^&\n\\]+)", text) for text in FILES]
    assert apt[0] and apt[1] and apt[0][1].split() == apt[1][1].split() and "g++" in apt[0][1]
    extras = [re.findall(r"EXTRAS=([\w,]+)", text) for text in FILES]
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras[0] == extras[1] and set(extras[0][0].split(",")) <= set(known)


def test_they_take_what_make_dist_leaves() -> None:
    recipe = (ROOT / "Makefile").read_text().split("\ndist:")[1].split("\n\n")[0]
    assert "--outdir build/dist" in recipe and "cp constraints.txt build/dist" in recipe
    assert all("constraints.txt /tmp/" in text and "hpcauxvae-*.tar.gz" in text for text in FILES)
    assert "graft jobs" in (ROOT / "MANIFEST.in").read_text()
