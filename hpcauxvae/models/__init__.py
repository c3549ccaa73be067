"""The models and their networks by name. To add one: a file here, and a line below.

A model from another package is named as it is imported, `my_package.my_module:MyVAE`.
"""

import os
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from hpcauxvae.types import InputError

if TYPE_CHECKING:
    from hpcauxvae.models.base import Model

MODELS = {
    "aux-vae": "hpcauxvae.models.aux_vae:AuxVAE",
    "beta-vae": "hpcauxvae.models.beta_vae:BetaVAE",
    "idvae": "hpcauxvae.models.idvae:IDVAE",
    "idvae-x": "hpcauxvae.models.idvae:ImageIDVAE",
    "supervised-vae": "hpcauxvae.models.supervised_vae:SupervisedVAE",
    "ar-vae": "hpcauxvae.models.ar_vae:ArVAE",
    "cvae": "hpcauxvae.models.cvae:CVAE",
    "ivae": "hpcauxvae.models.ivae:IVAE",
    "ci-ivae": "hpcauxvae.models.ci_ivae:CIIVAE",
    "beta-tcvae": "hpcauxvae.models.beta_tcvae:BetaTCVAE",
    "factor-vae": "hpcauxvae.models.factor_vae:FactorVAE",
    "dip-vae-i": "hpcauxvae.models.dip_vae:DipVAE1",
    "dip-vae-ii": "hpcauxvae.models.dip_vae:DipVAE2",
}
"""MODULE:CLASS, a subclass of base.Model."""
UNTOLD = "beta-vae", "beta-tcvae", "factor-vae", "dip-vae-i", "dip-vae-ii"
"""Those that do not train on auxiliary variables, and are scored against them where there are any."""
NETWORKS = {
    "conv": "hpcauxvae.models.networks:conv",
    "mlp": "hpcauxvae.models.networks:mlp",
    "resnet": "hpcauxvae.models.networks:resnet",
}
"""MODULE:NAME, where the functions NAME_encoder and NAME_decoder make the two for an image's shape."""
if TYPE_CHECKING:
    Network = str
else:
    Network = Literal[tuple(NETWORKS)]


def check_name(name: str) -> None:
    """Raises InputError unless `name` is in MODELS or has the form of a class to import, which is not tried here."""
    if name not in MODELS and not re.fullmatch(r"\w+(\.\w+)*:\w+", name):
        raise InputError(f"model = {name}; allowed: {', '.join(MODELS)}, or my_package.my_module:MyVAE")


def model_class(name: str) -> "type[Model]":
    """The class of this name; modules are also looked for in the working folder. Raises InputError."""
    from hpcauxvae.models.base import Model

    check_name(name)
    module, _, attribute = MODELS.get(name, name).partition(":")
    if name not in MODELS and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"model = {name}: {error}; allowed: what Python can import from here") from error
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise InputError(f"model = {name}: is {found}; allowed: a subclass of hpcauxvae.models.base.Model")
    if lacks := found.missing():
        raise InputError(f"model = {name}: has no {' and no '.join(lacks)}; allowed: a class that has (models/base.py)")
    return found


def read_by(name: str) -> set[str]:
    """Settings of an objective that this model reads and not every other does."""
    found = model_class(name)
    return set(found.SEARCHED) | found.SETTINGS


def unread_by(name: str) -> set[str]:
    """Settings of an objective that one of MODELS reads, but not this one; none for a model from another package."""
    return set().union(*map(read_by, MODELS)) - read_by(name) if name in MODELS else set()


def refuse_unread(name: str, given: Mapping[str, Any]) -> None:
    """Raises InputError where a setting is given that `unread_by` has."""
    unread = unread_by(name)
    for setting in [one for one in given if one in unread]:
        readers = ", ".join(other for other in MODELS if setting in read_by(other))
        raise InputError(
            f"{setting} = {given[setting]} with model {name}, which does not read it; allowed: with {readers}"
        )
