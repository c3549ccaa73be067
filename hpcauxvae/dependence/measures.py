"""By which measure all residual latents together are held independent of all factors: `--dependence NAME`.

A further one is a pair of classes beside these, which are its columns and its norm, and a line in `MEASURES`.
"""

from hpcauxvae.dependence.hsic import KernelFeatures, KernelPast
from hpcauxvae.dependence.joint import JointFeatures
from hpcauxvae.dependence.past import Past

MEASURES: dict[str, tuple[type[JointFeatures], type[Past]]] = {
    "joint": (JointFeatures, Past),
    "hsic": (KernelFeatures, KernelPast),
}
