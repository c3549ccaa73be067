"""Aux-VAE for labelled images: simulation, training, evaluation and generation, from a laptop to a cluster.

From Python: `load` a trained model, `open_set` a data set, the `regularizer` for a loss of your own. Each is imported
when it is first used, so that importing the package costs nothing. The page is docs/python.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcauxvae.data.hdf5 import open_set
    from hpcauxvae.dependence.regularizers import regularizer
    from hpcauxvae.evaluate.door import load

__all__ = ["__version__", "load", "open_set", "regularizer"]
__version__ = "0.1.0"

_PLACES = {
    "load": ("hpcauxvae.evaluate.door", "load"),
    "open_set": ("hpcauxvae.data.hdf5", "open_set"),
    "regularizer": ("hpcauxvae.dependence.regularizers", "regularizer"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
