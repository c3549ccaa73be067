"""Symmetries of images: where a mirrored sample is as likely as the sample itself, training may be shown either.

Shape legend in types.py; S symmetries.
"""

from typing import TYPE_CHECKING, NamedTuple

from hpcauxvae.types import Batch, InputError

if TYPE_CHECKING:  # `parse` serves a command line, which does without torch
    import torch
    from torch import Tensor

    from hpcauxvae.data.hdf5 import ImageSet

MIRRORS = ("left-right", "up-down", "transpose")


class Symmetry(NamedTuple):
    """A mirror image of a sample that is as likely as the sample."""

    mirror: str
    """One of MIRRORS."""
    odd: tuple[str, ...]
    """Names of the factors that change their sign with it, as the cross component of a shear; the others stay."""


def parse(text: str) -> tuple[Symmetry, ...]:
    """From words such as `left-right:g2` or `transpose`.

    Raises InputError for a mirror that is unknown or given twice.
    """
    found: list[Symmetry] = []
    for word in text.split():
        mirror, _, odd = word.partition(":")
        if mirror not in MIRRORS or mirror in [symmetry.mirror for symmetry in found]:
            allowed = f"each of {', '.join(MIRRORS)} once, with the odd factors after a colon, as in left-right:g2"
            raise InputError(f"symmetries = {text!r}: {mirror!r}; allowed: {allowed}")
        found.append(Symmetry(mirror, tuple(name for name in odd.split(",") if name)))
    return tuple(found)


class Mirrors:
    """Each sample as it is or mirrored, by half the chance for each symmetry; a key and its number decide."""

    def __init__(self, symmetries: tuple[Symmetry, ...], data: "ImageSet", device: "torch.device") -> None:
        """Raises InputError where the data cannot have a symmetry."""
        import torch

        _, height, width = data.shape
        factors = data.factors
        names = [factor.name for factor in factors]
        for mirror, odd in symmetries:
            if mirror == "transpose" and height != width:
                raise InputError(
                    f"{data.path}: symmetries: transpose: images are {height} x {width}; allowed: square ones"
                )
            for column in data.column(odd):
                name, _, low, high, kind = factors[column]
                if low != (0 if kind == "periodic" else -high):
                    raise InputError(
                        f"{data.path}: symmetries: {mirror}: factor {name!r} ranges from {low:g} to {high:g}; "
                        "allowed: a range about 0, or a periodic factor from 0 on"
                    )
        self.mirrors = [mirror for mirror, _ in symmetries]
        self._odd_SF = torch.tensor([[name in odd for name in names] for _, odd in symmetries], device=device)
        self._periodic_F = torch.tensor([factor.kind == "periodic" for factor in factors], device=device)

    def __call__(self, batch: Batch, *key: int) -> Batch:
        """The batch with some of its samples mirrored; factors that are not measured stay so."""
        if not self.mirrors:
            return batch
        import torch

        from hpcauxvae.data.samples import random_bits

        images, factors_BF, bits_B = batch.images, batch.factors, random_bits(batch.index, *key)
        for bit, mirror in enumerate(self.mirrors):
            chosen_B = (bits_B >> bit) & 1 == 1
            images = torch.where(chosen_B[:, None, None, None], _mirrored(images, mirror), images)
            opposite_BF = 1 - factors_BF
            opposite_BF = torch.where(self._periodic_F & (factors_BF == 0), 0, opposite_BF)  # both ends are the same
            factors_BF = torch.where(chosen_B[:, None] & self._odd_SF[bit], opposite_BF, factors_BF)
        return Batch(images, factors_BF, batch.index)


def _mirrored(images_BCHW: "Tensor", mirror: str) -> "Tensor":
    if mirror == "transpose":
        return images_BCHW.transpose(-1, -2)
    return images_BCHW.flip(-1 if mirror == "left-right" else -2)
