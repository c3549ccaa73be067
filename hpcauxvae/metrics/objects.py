"""Which samples show the same object: what is fitted to one of them has seen the others, and they count as one.

Several noise draws of a galaxy, or an image that is there twice, are such samples. Shape suffixes: N samples, F
factors, G objects.
"""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

TOLD_APART = 40
"""Different rows of factors from which on equal rows are the same object; fewer are classes or the points of a grid."""


def objects(values_NF: NDArray, digest_N: NDArray) -> Numbers:
    """The number of each sample's object, (N,): the same for equal pixels, and for equal factors, all of them known.

    values_NF: factors in any unit, NaN where not measured; digest_N: the same for the same image (data/pixels.py).
    Equal factors count only where there are `TOLD_APART` different rows of them or more.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n, known = len(digest_N), np.flatnonzero(~np.isnan(values_NF).any(1))
    _, first_N, image_N = np.unique(digest_N, return_index=True, return_inverse=True)
    ends = [(np.arange(n), first_N[image_N])]
    if values_NF.shape[1] and len(known):
        _, first, row = np.unique(values_NF[known], axis=0, return_index=True, return_inverse=True)
        if len(first) >= TOLD_APART:
            ends.append((known, known[first[row.reshape(-1)]]))
    one, other = np.concatenate(ends, 1)
    return np.asarray(connected_components(coo_array((np.ones(len(one), bool), (one, other)), (n, n)))[1], np.int64)


def in_order(object_N: Numbers) -> Numbers:
    """The order (N,) in which the rows of an object follow its first one."""
    _, first_G, number_N = np.unique(object_N, return_index=True, return_inverse=True)
    return np.argsort(first_G[number_N], kind="stable")


def mixed(object_N: Numbers, rng: np.random.Generator) -> Numbers:
    """For each row one of another object, (N,), the same object for all rows of one: objects in another order.

    Objects are numbered from 0, their rows together. Each comes once; one with fewer rows than it has to stand for
    gives them again and again.
    """
    start_G, size_G = np.searchsorted(object_N, np.arange(object_N[-1] + 1)), np.bincount(object_N)
    other_N = rng.permutation(len(size_G))[object_N]
    return np.asarray(start_G[other_N] + (np.arange(len(object_N)) - start_G[object_N]) % size_G[other_N])
