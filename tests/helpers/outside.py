"""A model in a package of its own, as a user writes it: the least that hpcauxvae asks for."""

from pathlib import Path

NAME = "stars.models:StarVAE"
SOURCE = '''
import torch
from torch import nn

from hpcauxvae.models.base import Model
from hpcauxvae.types import Around, Posterior


class StarVAE(Model):
    """A VAE of two linear layers, whose first latents are pulled to the factors."""

    SEARCHED = {"beta": Around(4)}
    GUIDED = True

    def __init__(self, objective, **sizes):
        super().__init__(objective, **sizes)
        pixels = torch.Size(self.image_shape).numel()
        self.inward, self.outward = nn.Linear(pixels, 2 * self.latents), nn.Linear(self.latents, pixels)

    def encode(self, images, u_BD=None):
        return Posterior(*self.inward(self.scale(images).flatten(1)).chunk(2, 1))

    def decode(self, z_BZ):
        return self.scale.inverse(self.outward(z_BZ).unflatten(1, self.image_shape))

    def forward(self, batch, noise_BZ, reduction):
        posterior = self.encode(batch.images)
        drawn = self.outward(posterior.sample(noise_BZ)).unflatten(1, self.image_shape)
        error_B = (drawn - self.scale(batch.images)).square().sum((1, 2, 3))
        kl_B = (posterior.mean.square() + posterior.logvar.exp() - posterior.logvar - 1).sum(1) / 2
        u_BD = self.factors(batch)
        pull_B = (posterior.mean[:, : u_BD.shape[1]] - u_BD).square().sum(1)
        means = {"reconstruction": error_B, "kl": self.objective.beta * kl_B, "pull": 10 * pull_B}
        return {name: reduction.mean(values_B) for name, values_B in means.items()}
'''


def package(folder: Path) -> Path:
    """Writes the package `stars` into the folder, from which Python can then import it; returns the folder."""
    (folder / "stars").mkdir(parents=True)
    (folder / "stars" / "__init__.py").touch()
    (folder / "stars" / "models.py").write_text(SOURCE)
    return folder
