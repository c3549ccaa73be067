"""What is said of a ceiling that was passed, or that is low."""

from typing import Any

import numpy as np
import pytest

from hpcauxvae.evaluate import verdicts
from hpcauxvae.metrics import Codes
from hpcauxvae.metrics.codes import correlated
from hpcauxvae.metrics.lds import lds


def block(value: float, ceiling: float, n: int, r: float) -> dict[str, Any]:
    score = {"value": value, "low": value - 0.02, "high": value + 0.02, "n": n, "attainable": ceiling}
    return {
        "codes": {"lds": score},
        "latents": {"of": 4},
        "correlated": [{"factors": ["length", "width"], "r": r}, {"factors": ["length", "hue"], "r": 0.1}],
    }


def together(ceiling: float, alone: float) -> dict[str, Any]:
    """Of 48 samples, with so much to attain over the guided latents alone."""
    found = block(ceiling, ceiling, 48, 0.87)
    found["codes"]["lds_d"] = found["codes"]["lds"] | {"value": alone, "attainable": alone}
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (block(0.70, 0.53, 4000, 0.85), ["LDS is 1.32 [1.28, 1.36] of its ceiling: length and width correlate by 0.85",
                                         "a perfect code has an LDS of 0.53 only: length and width correlate by 0.85"]),
        (block(0.90, 0.87, 400, 0.01), ["LDS is 1.03 [1.01, 1.06] of its ceiling: each of its latents correlates less "
                                        "with the other factors than chance "]),
        (block(0.90, 0.88, 400, 0.01), ["LDS is 1.02 [1.00, 1.05] of its ceiling: chance, of 400 samples"]),
        (block(0.60, 0.65, 12, 0.1), ["a perfect code has an LDS of 0.65 only: 12 samples have chance correlations "
                                       "(32 would have 0.7)"]),
        (block(0.95, 0.96, 4000, 0.85), []),
        (together(0.32, 0.53), ["a perfect code has an LDS of 0.32 only: length and width correlate by 0.87, and 48 "
                                "samples have chance correlations, and these factors leave no more than 0.53 to any"]),
        (together(0.55, 0.75), ["a perfect code has an LDS of 0.55 only: length and width correlate by 0.87, and 48 "
                                "samples have chance correlations (632 would have 0.7)"]),
    ],
)  # fmt: skip
def test_a_ceiling_that_is_passed_or_low_says_why(given: dict[str, Any], expected: list[str]) -> None:
    lines = list(verdicts.ceilings(given))
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start)


def test_the_share_that_passes_its_ceiling_is_named_beside_an_lds_that_does_not() -> None:
    found = block(0.60, 0.75, 48, 0.1)
    found["codes"]["lds_mean"] = {"value": 0.9, "low": 0.5, "high": 1.0, "n": 48, "attainable": 0.6}
    (line,) = verdicts.ceilings(found)
    assert line.startswith("LDS of means is 1.50 [0.83, 1.67] of its ceiling: chance, of 48 samples")


def test_factors_that_correlate_are_named_where_a_code_that_lost_one_passes_its_ceiling() -> None:
    """The case of two labels that repeat each other: the ceiling falls to about a half."""
    rng = np.random.default_rng(2)
    u = rng.random((2000, 1)) + 0.3 * rng.random((2000, 2))
    mean = np.c_[u[:, 0], rng.random(2000), rng.standard_normal((2000, 2))]
    codes = Codes(
        mean_NZ=mean, logvar_NZ=np.full_like(mean, -9.0), aux_ND=u, hidden_NH=u[:, :0], aux_names=["a", "b"],
        hidden_names=(), seed=0,
    )  # fmt: skip
    found = {"codes": {"lds": lds(codes)}, "correlated": correlated(codes), "latents": {"of": 4}}
    passed, low = verdicts.ceilings(found)
    assert "a and b correlate by 0.9" in passed and "a and b correlate by 0.9" in low
