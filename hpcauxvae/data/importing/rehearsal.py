"""Whether the format takes what a plan has beside the pixels: asked before an image is read."""

from collections.abc import Iterator

import h5py

from hpcauxvae.data import beside, rules
from hpcauxvae.data.given import check_factors, put
from hpcauxvae.data.hdf5 import begin
from hpcauxvae.data.importing.plan import Plan
from hpcauxvae.types import InputError


def rehearse(plan: Plan) -> None:
    """Makes the set in memory, without its pixels. Raises InputError, as putting the set together would."""
    for error in _errors(plan):
        raise InputError(f"{plan.out}: {error}")


def _errors(plan: Plan) -> Iterator[str]:
    shape = (plan.n, *plan.recipe.shape)
    check_factors(plan.factors, plan.out)
    with h5py.File(str(plan.out), "w", driver="core", backing_store=False) as file:
        if plan.factors:
            stored = begin(file, plan.n, plan.factors, plan.provenance)
            yield from rules.attribute_errors(stored.attrs, len(plan.factors))
        else:
            put(plan.provenance, file.attrs)
        beside.Beside(**plan.beside).put(file, shape, [factor.unit for factor in plan.factors])
        yield from beside.value_errors(beside.read(file), [factor.name for factor in plan.factors])
