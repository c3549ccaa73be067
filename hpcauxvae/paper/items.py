"""The tables and figures by name: what draws each, and the experiments whose runs it reads.

To add one: a file here with a function of (name, runs, out), and an entry below.
"""

from collections.abc import Mapping
from typing import NamedTuple

from hpcauxvae.paper.experiments import BEYOND, BEYOND_SEEDS, EXPERIMENTS, METHODS

Experiments = Mapping[str, str]
"""Names of experiments by label: as it stands beside what is drawn of the run, or in the name of its file."""


class Item(NamedTuple):
    """A table or figure."""

    draw: str
    """MODULE:FUNCTION in this folder, of (the name, the runs by label, a folder): writes and returns files there."""
    experiments: Experiments
    every: bool = False
    """It reads every run in the folder of these experiments, whatever it trained."""
    any_will_do: bool = False
    """Where there is no run of these experiments, any other on the same data set will do."""
    from_scores: bool = False
    """It reads what a run says of itself alone (config.json, metrics.json, metrics.jsonl); others need the weights, and
    what they were trained on."""


_CASES = (1, 2, 3)
_AUX, _IDVAE = ([f"galaxies-case{case}-{model}-0" for case in _CASES] for model in ("aux-vae", "idvae"))
_BETA_VAE = "galaxies-case1-beta-vae-0"
_ALL_METHODS = {"β-VAE": _BETA_VAE} | {
    f"{METHODS[model]}, case {case}": f"galaxies-case{case}-{model}-0"
    for case in _CASES
    for model in ("idvae", "idvae-x", "aux-vae")
}
_BY_CASE = {f"case {case}": name for case, name in zip(_CASES, _AUX, strict=True)}
_CASE_2 = {"aux-vae": _AUX[1], "idvae": _IDVAE[1]}
_OTHER_DATA = {
    f"{data}-{labels}": f"{data}-{labels}-aux-vae-0" for data in ("dsprites", "cars3d") for labels in ("raw", "sound")
}
_MODELS_ON_OTHER_DATA = {
    f"{data}-{model}": f"{data}-raw-{model}-0"
    for data in ("dsprites", "cars3d")
    for model in ("beta-vae", "idvae", "aux-vae")
}


def _all(sweep: str) -> Experiments:
    return {experiment.name: experiment.name for experiment in EXPERIMENTS if experiment.sweep == sweep}


_AUX_OF_BEYOND = {
    name: name
    for data, kinds in BEYOND.items()
    for name in (f"{data}-{labels}-aux-vae-{seed}" for labels in kinds for seed in range(BEYOND_SEEDS[data]))
}
"""Top folder first."""

ITEMS: dict[str, Item] = {
    "table1": Item("table1:draw", _all(""), every=True, from_scores=True),
    "findings": Item("findings:draw", _all(""), every=True, from_scores=True),
    "table4": Item("grid:table_4", _all("grid"), every=True, from_scores=True),
    "fig1": Item("tsne:figure_1", {"": _BETA_VAE}, any_will_do=True),
    "fig2": Item("figures:figure_2", _ALL_METHODS),
    "fig3": Item("figures:scatters", _CASE_2),
    "fig4": Item("perturbation:figure_4", _BY_CASE),
    "fig5": Item("figures:figure_5", _CASE_2 | {"beta-vae": _BETA_VAE}),
    "fig6": Item("tsne:figure_6", {
        "β-VAE": _BETA_VAE, **{f"IDVAE\ncase {case}": name for case, name in enumerate(_IDVAE, 1)}
    }),
    "fig7": Item("tsne:figure_7", _BY_CASE),
    "fig8": Item("attack:figure_8", _ALL_METHODS),
    "fig9": Item("figures:scatters", {"beta-vae": _BETA_VAE}),
    "fig10": Item("figures:scatters", {
        "idvae-case1": _IDVAE[0], "aux-vae-case1": _AUX[0], "idvae-case3": _IDVAE[2], "aux-vae-case3": _AUX[2]
    }),
    "fig11": Item("figures:traversals", {f"idvae-case{case}": name for case, name in enumerate(_IDVAE, 1)}),
    "fig12": Item("figures:traversals", {f"aux-vae-case{case}": name for case, name in enumerate(_AUX, 1)}),
    "fig13": Item("tsne:figure_13", _MODELS_ON_OTHER_DATA),
    "fig14": Item("figures:figure_14", _OTHER_DATA),
    "fig15": Item("figures:scatters", _OTHER_DATA),
    "fig16": Item("grid:figure_16", _all("grid"), every=True, from_scores=True),
    "betas": Item("betas:draw", _all("betas"), every=True, from_scores=True),
    "generated": Item("generated:figure", {"": _AUX[0]}),
    "beyond": Item("beyond:draw", {**_AUX_OF_BEYOND, **_all("beyond")}, every=True, from_scores=True),
}  # fmt: skip
ASIDE = ("beyond",)
"""Items that are no part of the paper: made where they are named, not with `all`."""
