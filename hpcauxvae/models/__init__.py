"""The models by name. To add one: a file here that satisfies types.Model, and a line below."""

from hpcauxvae.models.aux_vae import AuxVAE
from hpcauxvae.models.beta_vae import BetaVAE
from hpcauxvae.models.idvae import IDVAE, ImageIDVAE

MODELS: dict[str, type[BetaVAE]] = {"aux-vae": AuxVAE, "beta-vae": BetaVAE, "idvae": IDVAE, "idvae-x": ImageIDVAE}
