"""The regularizers over the batches of several gloo processes, some of them uneven or empty, against one process."""

import numpy as np
import pytest

from helpers.regularizers_on_ranks import COUNTS, LOSSES, alone, assert_equal_to_one_process, losses_on_ranks

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module", params=COUNTS)
def ranks(request: pytest.FixtureRequest) -> list:
    return losses_on_ranks(COUNTS[request.param], tuple(LOSSES))


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_those_of_one_process(ranks: list, name: str) -> None:
    assert_equal_to_one_process(ranks, name)


@pytest.mark.parametrize("name", LOSSES)
def test_without_the_sum_in_the_backward_pass_the_gradient_would_be_wrong(ranks: list, name: str) -> None:
    """The silent bug of this family of losses: right value, gradient too small by the world size."""
    one = alone(name)
    together = np.concatenate([part[f"{name}/True/codes"] for part in ranks])
    np.testing.assert_allclose(ranks[0][f"{name}/True/loss"], one["loss"], rtol=1e-10)
    wrong = np.abs(together - one["codes"]).max() > 0.3 * np.abs(one["codes"]).max()
    assert wrong == (len(ranks) > 1)
