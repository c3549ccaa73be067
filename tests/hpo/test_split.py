"""A search splits its data as it is told, in every trial and where it looks for the objective."""

import json
from pathlib import Path

import numpy as np
import pytest

from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.data.splits import parts
from hpcauxvae.types import Factor, InputError
from hpo.logbook import SETTINGS
from hpo.settings import SearchConfig
from hpo.trials import Setup


def test_every_trial_is_told(tmp_path: Path) -> None:
    search = SearchConfig(data=Path("x.h5"), aux="a", split="blocks")
    fields = search.train_fields()
    setup = Setup(out=tmp_path, mark="", fields=fields, processes=1, early_stopping=False, trial_minutes=None)
    trial = setup.config(0, {"beta": 1.0}).arguments()
    assert trial[trial.index("--split") + 1] == "blocks"
    with pytest.raises(
        InputError, match="'split' is no hyperparameter of a run; allowed: --split of the search itself"
    ):
        SearchConfig(data=Path("x.h5"), aux="a", fix=("split=blocks",))
    with pytest.raises(InputError, match=r"'folds' is no hyperparameter of a run; allowed: .*accumulate"):
        SearchConfig(data=Path("x.h5"), aux="a", fix=("folds=5",))


def test_a_search_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    search = SearchConfig(data=Path("x.h5"), aux="a", out=tmp_path)
    saved = search.to_json()
    del saved["split"]
    (tmp_path / SETTINGS).write_text(json.dumps({"settings": saved}))
    search.check_same(SearchConfig.load(tmp_path))
    with pytest.raises(InputError, match="the search there has split = auto, now group"):
        SearchConfig(data=Path("x.h5"), aux="a", out=tmp_path, split="group").check_same(SearchConfig.load(tmp_path))


def test_the_objective_is_chosen_by_the_training_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts in the groups that train, fields of any sign in the others."""
    rng, group = np.random.default_rng(0), np.arange(200) // 10
    images = rng.poisson(2000, (200, 1, 8, 8)).astype(np.float32)
    for write_again in (False, True):
        write(tmp_path / f"{write_again}.h5", images, rng.random((200, 1)), [Factor("a", "", 0, 1)], {}, group=group)
        path = tmp_path / f"{write_again}.h5"
        images[np.concatenate(parts(open_set(path), 0)[1:])] -= 2000.5
    chosen = {
        split: SearchConfig(data=path, aux="a", split=split).decided().objective
        for split in ("auto", "group", "random")
    }
    assert chosen == {"auto": "tuned", "group": "tuned", "random": "gaussian"}
    capsys.readouterr()
