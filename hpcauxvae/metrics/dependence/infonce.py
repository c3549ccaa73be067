"""InfoNCE, a lower bound of the mutual information in nats (van den Oord et al. 2018; Poole et al. 2019, eq. 10).

Shape suffixes: N samples, D factors, R residual latents, E what the critic makes of either, B candidates.
"""

from typing import TYPE_CHECKING

import numpy as np

from hpcauxvae.metrics.dependence.statistic import Statistic, standardised
from hpcauxvae.metrics.intervals import Array
from hpcauxvae.metrics.objects import Numbers

if TYPE_CHECKING:
    from torch import Tensor

CANDIDATES = 256
"""Samples among which the critic has to find the one that belongs: no bound is above log(256) = 5.5 nats."""
HIDDEN, OUT = 64, 32
STEPS, LOOK, PATIENCE = 600, 20, 5
"""Steps at most; after so many those that are kept aside are looked at; without a gain so often, no more follow."""
RATE, DECAY = 3e-3, 1e-2
ASIDE = 5
"""One object in so many of those that train is kept aside, and says when to stop."""


def infonce(u_ND: Array, z_NR: Array, object_N: Numbers, seed: int) -> Statistic:
    """Mean over samples of log(e^f(u_i, z_i) / mean over candidates j of e^f(u_i, z_j)), f = g(u) h(z).

    g and h are networks of one hidden layer. Each half of the samples is judged by the critic of the other half, so the
    bound holds in the mean, and a critic that learned by heart has less than 0. What is asked of a row of u beside a
    row of z must lie in the same half (`halves`).
    """
    u_ND, z_NR = standardised(u_ND), standardised(z_NR)
    second_N = np.arange(len(u_ND)) >= halves(object_N)
    g_NE, h_NE = np.zeros((len(u_ND), OUT)), np.zeros((len(u_ND), OUT))
    for number, judged_N in enumerate((second_N, ~second_N)):
        learned = np.flatnonzero(~judged_N)
        critic = _trained(u_ND[learned], z_NR[learned], object_N[learned], 2 * seed + number)
        g_NE[judged_N], h_NE[judged_N] = critic(u_ND[judged_N], z_NR[judged_N])

    def statistic(rows_u: Numbers, rows_z: Numbers) -> float:
        total = 0.0
        for half in (second_N, ~second_N):
            inside = half[rows_u]
            total += _gains(g_NE[rows_u[inside]], h_NE[rows_z[inside]])
        return total / len(rows_u)

    return statistic


def halves(object_N: Numbers) -> int:
    """The row with which the second half begins, no object in both."""
    return int(np.searchsorted(object_N, (object_N[-1] + 1) // 2))


def _gains(g_NE: Array, h_NE: Array) -> float:
    """Sum over samples, in blocks of about as many candidates."""
    total = 0.0
    for part in np.array_split(np.arange(len(g_NE)), max(1, -(-len(g_NE) // CANDIDATES))):
        scores_BB = g_NE[part] @ h_NE[part].T
        highest_B = scores_BB.max(1)
        total += float((scores_BB.diagonal() - highest_B - np.log(np.exp(scores_BB.T - highest_B).mean(0))).sum())
    return total


class _Critic:
    """Two networks of one hidden layer, in float32, their weights drawn from a generator of their own."""

    def __init__(self, d: int, r: int, seed: int) -> None:
        import torch  # seconds, which the start of a command does without

        rng = np.random.default_rng([seed, 7])
        shapes = [(d, HIDDEN), (1, HIDDEN), (HIDDEN, OUT), (r, HIDDEN), (1, HIDDEN), (HIDDEN, OUT)]
        self.weights = [torch.from_numpy(rng.standard_normal(s).astype(np.float32) / s[0] ** 0.5) for s in shapes]

    def on(self, u_BD: "Tensor", z_BR: "Tensor") -> "tuple[Tensor, Tensor]":
        """g(u) and h(z), (B, E) each."""
        from torch.nn.functional import silu

        g_in, g_bias, g_out, h_in, h_bias, h_out = self.weights
        return silu(u_BD @ g_in + g_bias) @ g_out / OUT**0.5, silu(z_BR @ h_in + h_bias) @ h_out / OUT**0.5

    def __call__(self, u_ND: Array, z_NR: Array) -> tuple[Array, Array]:
        """The same of arrays."""
        import torch

        with torch.no_grad():
            g_NE, h_NE = self.on(torch.from_numpy(u_ND).float(), torch.from_numpy(z_NR).float())
        return g_NE.double().numpy(), h_NE.double().numpy()


def _trained(u_ND: Array, z_NR: Array, object_N: Numbers, seed: int) -> _Critic:
    """A critic of these samples, as it was where those kept aside had the most."""
    import torch

    critic = _Critic(u_ND.shape[1], z_NR.shape[1], seed)
    aside = object_N % ASIDE == 0
    u_BD, z_BR = (torch.from_numpy(x[~aside]).float() for x in (u_ND, z_NR))
    rng, size = np.random.default_rng([seed, 3]), min(CANDIDATES, len(u_BD))
    for weights in critic.weights:
        weights.requires_grad_()
    optimizer = torch.optim.AdamW(critic.weights, RATE, weight_decay=DECAY)
    best, since, kept = 0.0, 0, [torch.zeros_like(weights) for weights in critic.weights]  # which finds nothing
    for step in range(STEPS):
        rows = torch.from_numpy(rng.permutation(len(u_BD))[:size])
        g_BE, h_BE = critic.on(u_BD[rows], z_BR[rows])
        loss = torch.nn.functional.cross_entropy(g_BE @ h_BE.T, torch.arange(size))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % LOOK == LOOK - 1:
            gain = _gains(*critic(u_ND[aside], z_NR[aside]))
            since += 1
            if gain > best:
                best, since, kept = gain, 0, [weights.detach().clone() for weights in critic.weights]
            if since == PATIENCE:
                break
    critic.weights = kept
    return critic
