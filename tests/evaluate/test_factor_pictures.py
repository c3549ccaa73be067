"""Pictures of a factor with many classes: which is taken for which; no panel for each of its latents."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from helpers.drawn import check_png, texts
from hpcauxvae.data.guides import guided, guides_of
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.evaluate.factor_pictures import draw_factors
from hpcauxvae.types import Factor

N, CLASSES = 600, 20


def test_many_classes_are_one_picture(tmp_path: Path, figures: list[Figure]) -> None:
    rng = np.random.default_rng(0)
    values = np.stack([np.arange(N) % CLASSES, rng.uniform(0, 2, N)], 1)
    factors = (Factor("object", "", 0, 19, "categorical"), Factor("size", "cm", 0, 2))
    write(tmp_path / "set.h5", np.ones((N, 1, 4, 4)), values, factors, {})
    data = open_set(tmp_path / "set.h5")
    guides = guides_of(data, ["object", "size"], "kinds")
    data = guided(data, guides)
    told = values[:, 0].copy()
    told[told == 7] = 3
    mean_NZ = np.concatenate([guides[0].scaled(told), values[:, 1:] / 2, rng.standard_normal((N, 3))], 1)
    z_NZ = mean_NZ + 0.1 * rng.standard_normal(mean_NZ.shape)
    names = [column.name for guide in guides for column in guide.columns]
    draw_factors(data, np.arange(N), z_NZ, mean_NZ, guides, names, {"codes": {}}, tmp_path, "test")
    for name in ("classes-object", "scatter", "correlations"):
        check_png(tmp_path / f"{name}-test.png")
    classes, scatter, correlations = figures
    said = texts(classes)
    assert "accuracy 0.95, shares of each row in %" in said and said.count("100") == CLASSES and "7 (30)" in said
    assert len(scatter.axes) == 4, "the size against its own latent and three residual ones"
    assert (
        "$z_{20}$\nsize" in texts(scatter) and "$z_{23}$" in texts(scatter) and "$z_{1}$" not in "".join(texts(scatter))
    )
    assert correlations.axes[0].images[0].get_array().shape == (1, 4)
    assert "$z_{20}$\nsize" in texts(correlations)
