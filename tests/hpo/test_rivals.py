"""What a search varies of the models of docs/rivals.md."""

from pathlib import Path

import pytest

from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import InputError, Interval
from hpo.problem import declared_space
from hpo.settings import SearchConfig


def test_the_weight_of_a_rival_is_varied_around_its_own_or_the_one_given():
    fields = {"data": Path("x.h5"), "aux": "a,b"}
    assert declared_space(TrainConfig(model="dip-vae-i", **fields))["own_weight"] == Interval(1.0, 100.0, log=True)
    assert declared_space(TrainConfig(model="ar-vae", **fields))["own_weight"] == Interval(0.1, 1000.0, log=True)
    given = TrainConfig(model="factor-vae", own_weight=40.0, **fields)
    assert declared_space(given)["own_weight"] == Interval(4.0, 400.0, log=True)
    assert "own_weight" not in declared_space(TrainConfig(model="cvae", **fields))
    with pytest.raises(InputError, match="own_weight in the space: aux-vae has no such hyperparameter"):
        SearchConfig(**fields, vary=("own_weight=1:10",))
