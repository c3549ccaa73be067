"""Scores of counterfactuals against numpy and plain loops, and what they say of readings that are known."""

import numpy as np
import pytest

from hpcauxvae.metrics.control import agreement, distance, minimality, unlike
from hpcauxvae.metrics.reading import directions
from hpcauxvae.types import Factor

PLAIN = [Factor("a", "", 0, 1), Factor("b", "", 0, 1)]


def asked(n: int = 300, seed: int = 0, correlation: float = 0.0) -> np.ndarray:
    """Two factors in [0, 1], which may go with one another."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, n))
    pair = np.stack([first, correlation * first + np.sqrt(1 - correlation**2) * second], 1)
    return np.clip(0.5 + 0.15 * pair, 0, 1)


def test_agreement_is_what_numpy_says() -> None:
    u, rng = asked(), np.random.default_rng(1)
    read = np.stack([0.3 + 0.5 * u[:, 0] + 0.1 * rng.normal(size=300), 0.9 - u[:, 1]], 1)
    first, second = agreement(u, read, [Factor("a", "", 0, 10), Factor("b", "", -1, 1)])
    assert first["r"]["value"] == pytest.approx(np.corrcoef(u[:, 0], read[:, 0])[0, 1])
    assert first["slope"]["value"] == pytest.approx(np.polyfit(u[:, 0], read[:, 0], 1)[0])
    design = np.concatenate([np.ones((300, 1)), u], 1)
    assert first["own"]["value"] == pytest.approx(np.linalg.lstsq(design, read[:, 0])[0][1])
    assert first["error"]["value"] == pytest.approx(10 * np.sqrt(np.mean((u - read)[:, 0] ** 2)))
    assert [second[name]["value"] for name in ("r", "slope", "own")] == pytest.approx([-1, -1, -1])
    assert first["offset"]["value"] == pytest.approx(10 * np.mean((read - u)[:, 0]))
    assert first.pop("spread") == pytest.approx(10 * u[:, 0].std())
    assert all(s["low"] <= s["value"] <= s["high"] and s["n"] == 300 for s in first.values())


def test_the_intervals_of_agreement_cover() -> None:
    """0.4 u and noise of variance s^2: r = .4 v / sqrt(.16 v^2 + s^2), v the spread of u; slope and own .4."""
    covered = {"r": 0, "slope": 0, "own": 0}
    truth = {"r": 0.4 * 0.15 / np.hypot(0.4 * 0.15, 0.1), "slope": 0.4, "own": 0.4}
    for seed in range(200):
        u = 0.5 + 0.15 * np.random.default_rng([seed, 1]).normal(size=(150, 2))
        read = 0.4 * u + 0.1 * np.random.default_rng([seed, 2]).normal(size=u.shape)
        score = next(agreement(u, read, PLAIN))
        for name in covered:
            covered[name] += score[name]["low"] <= truth[name] <= score[name]["high"]
    assert all(181 <= count <= 199 for count in covered.values()), covered


def test_a_factor_that_is_followed_through_another_has_no_slope_of_its_own() -> None:
    u = asked(2000, correlation=0.85)
    read = np.repeat(u[:, :1], 2, 1) + 0.02 * np.random.default_rng(1).normal(size=u.shape)
    first, second = agreement(u, read, PLAIN)
    assert second["r"]["value"] > 0.8 and second["slope"]["value"] > 0.8
    assert first["own"]["value"] == pytest.approx(1, abs=0.02)
    assert second["own"]["low"] <= 0 <= second["own"]["high"] < 0.05


def test_of_a_periodic_factor_the_shorter_way_round_counts() -> None:
    """A reader that is right to a twentieth of a turn, across the ends of the range too; another factor beside it."""
    rng = np.random.default_rng(0)
    u = rng.uniform(size=(400, 2))
    read = np.stack([(u[:, 0] + 0.05 * rng.normal(size=400)) % 1, u[:, 1] + 0.3 * np.sin(2 * np.pi * u[:, 0])], 1)
    turn, plain = agreement(u, read, [Factor("turn", "deg", 0, 360, "periodic"), PLAIN[1]])
    assert set(turn) == {"r", "error", "offset", "spread"}
    assert turn["r"]["value"] == pytest.approx(directions(u[:, 0], read[:, 0])) and turn["r"]["value"] > 0.88
    assert turn["error"]["value"] == pytest.approx(0.05 * 360, rel=0.1)
    assert plain["own"]["value"] == pytest.approx(1) and plain["r"]["value"] < 0.9  # its sine explains the rest


def test_what_never_changes_agrees_with_nothing() -> None:
    u = asked()
    u[:, 1] = 0.3
    for score in agreement(u, np.full(u.shape, 0.7), PLAIN):
        assert [score[name]["value"] for name in ("r", "slope", "own")] == pytest.approx([0, 0, 0], abs=1e-9)


def test_distance_is_0_to_itself_and_1_to_another_image() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 50, 1, 4, 4))
    apart = one, other
    assert distance(one, one, apart)["value"] == 0
    assert distance(one, other, apart)["value"] == pytest.approx(1)
    assert distance(other, one, apart)["value"] == pytest.approx(1)
    halfway = distance(one, (one + other) / 2, apart)
    assert halfway["value"] == pytest.approx(0.25) and halfway["n"] == 50


def test_unlike_is_the_share_beyond_99_of_100_reconstructions() -> None:
    """One feature, known at 0 to 9: the fifth nearest of 4.5 is 2.5 away, and further with each step outwards."""
    known, own = np.arange(10.0)[:, None], np.linspace(0, 9, 200)[:, None]
    asked = own.copy()
    asked[::10] += 30
    assert unlike(known, own, own)["value"] <= 0.01
    found = unlike(known, own, asked)
    assert found["value"] == pytest.approx(0.1, abs=0.011) and found["low"] > 0.03 and found["n"] == 200
    distances = np.sort(abs(own - known.T), 1)[:, 4]
    assert np.mean(np.sort(abs(asked - known.T), 1)[:, 4] > np.quantile(distances, 0.99)) == found["value"]


def test_minimality_counts_the_images_that_are_nearer() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(size=(40, 2)) * [1, 100]
    assert minimality(own, own)["value"] == 0
    changed = own + rng.normal(size=own.shape) * [0.5, 50]
    counts = []
    for i in range(40):
        of_others = [sum(((own[i] - own[k]) / own.std(0)) ** 2) for k in range(40) if k != i]
        counts.append(np.mean(np.array(of_others) < sum(((own[i] - changed[i]) / own.std(0)) ** 2)))
    assert minimality(own, changed)["value"] == pytest.approx(np.mean(counts))
    many = rng.normal(size=(600, 3))
    assert minimality(many, np.roll(many, 1, 0))["value"] == pytest.approx(0.5, abs=0.05)


def test_distances_are_of_known_pixels() -> None:
    """Those of the first image; between two, those of both; a pair without any is left out."""
    rng = np.random.default_rng(1)
    a, b, made = rng.normal(size=(3, 6, 1, 4, 4))
    of_a, of_b = rng.random((2, 6, 1, 4, 4)) < 0.6
    of_b[2] = ~of_a[2]
    near, far = [], []
    for n in (0, 1, 3, 4, 5):
        near.append(np.square(a[n] - made[n])[of_a[n]].mean())
        far.append(np.square(a[n] - b[n])[of_a[n] & of_b[n]].mean())
    expected = distance(a, made, (a, b), (of_a, of_b))
    assert expected["value"] == pytest.approx(np.mean(near) / np.mean(far)) and expected["n"] == 5
    a[~of_a], b[~of_b] = 1e9, -1e9
    assert distance(a, made, (a, b), (of_a, of_b)) == pytest.approx(expected)
