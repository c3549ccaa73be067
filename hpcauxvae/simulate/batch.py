"""Many stamps at once, in Fourier space with torch: for galaxies whose transform is a function of one variable.

A stamp is the inverse Fourier transform of galaxy x PSF x pixel. That product is even in k, so the integral is over a
quadrant, of products of cosines and of sines; Gauss-Legendre nodes under a sinh map, which are dense where a galaxy's
transform varies and reach as far as it matters (kmax, chosen for each stamp among classes 8 % apart), make it four
matrix products: a partial DFT to the stamp's own pixels, in place of an FFT to many that are thrown away.

Shape suffixes: B stamps of a block, K nodes along an axis, P pixels along an axis on one side of the centre, M classes,
T entries of a table. Lengths are in pixels, wave numbers k in radians a pixel.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import galsim
import numpy as np
import torch
from torch import Tensor

from hpcauxvae.simulate.profiles import BULGE_SIZE, PSFS
from hpcauxvae.simulate.scene import Scene
from hpcauxvae.types import InputError

BLOCK = 32
"""Stamps rendered together, galaxies i with the same i // BLOCK: each has always the same place, and the same bits."""

_NODES = {"batch": (56, 84, 1.2, 3e-6), "batch-fine": (68, 112, 1.4, 3e-7)}
"""For a stamp of 33 pixels: nodes along an axis for exponential and Gaussian, which fade fastest; for all else; stretch
of the sinh map; the transform's value at which kmax lies."""
_NODES_AT = 16.5  # half the stamp's width that these nodes are for
_STEP = 1.08  # from one class of kmax to the next
_LOWEST, _CLASSES = 0.05, 100
_MOST_TURNS, _MOST_SIZE = 3.3, 1.7
"""What a node resolves at most, by trial at the corners of Table 2: kmax times half the stamp, and times the galaxy's
long axis."""
_KNEE, _ENTRIES, _LARGEST = 0.02, 8192, 2000.0  # of tables: linear in log(1 + (q / _KNEE)^2) up to q = _LARGEST
_FWHM = 2 * np.sqrt(2 * np.log(2))

_EXACT = galsim.GSParams(kvalue_accuracy=1e-9, maxk_threshold=1e-6, folding_threshold=1e-5)

Transform = Callable[[Tensor], Tensor]
"""(k r)^2, (B, ., .) -> the transform of flux 1, same shape; r is the galaxy's radius."""


def exponential(p: dict[str, Tensor]) -> Transform:
    """(1 + k^2 r^2)^(-3/2)"""

    def transform(q2: Tensor) -> Tensor:
        root = torch.add(q2, 1).rsqrt_()
        return (root * root).mul_(root)

    return transform


def sersic(p: dict[str, Tensor]) -> Transform:
    """From GalSim's table of each index."""
    return tabulated(torch.stack([_sersic_table(float(index)) for index in p["index"].double()]).to(p["index"]))


def bulge_disk(p: dict[str, Tensor]) -> Transform:
    """Sum of both, in Fourier space."""
    disk, bulge = exponential(p), tabulated(_sersic_table(4.0).to(p["bulge_fraction"])[None])
    share_B11 = p["bulge_fraction"][:, None, None]

    def transform(q2: Tensor) -> Tensor:
        return torch.lerp(disk(q2), bulge(q2 * BULGE_SIZE**2), share_B11)

    return transform


TRANSFORMS: dict[str, Callable[[dict[str, Tensor]], Transform]] = {
    "exponential": exponential,
    "sersic": sersic,
    "bulge-disk": bulge_disk,
}


@lru_cache(maxsize=256)
def _sersic_table(index: float) -> Tensor:
    return table_of(galsim.Sersic(index, half_light_radius=1, gsparams=_EXACT))


@lru_cache(maxsize=8)
def _psf_table(name: str) -> Tensor:
    return table_of(PSFS[name][0](1.0).withGSParams(_EXACT))


def table_of(profile: Any) -> Tensor:
    """(T,) float64: the transform of a round GalSim profile of radius (or width) 1."""
    top = np.log1p((_LARGEST / _KNEE) ** 2)
    q = _KNEE * np.sqrt(np.expm1(np.linspace(0, top, _ENTRIES)))
    return torch.tensor([profile.kValue(value, 0).real for value in q], dtype=torch.float64)


def tabulated(table_BT: Tensor) -> Transform:
    """Linear interpolation in tables of `table_of`: a table for each stamp, or the same for all (B = 1)."""
    scale = (_ENTRIES - 1) / float(np.log1p((_LARGEST / _KNEE) ** 2))
    steps = table_BT.diff(dim=1, append=table_BT[:, -1:]).reshape(-1)
    flat = table_BT.reshape(-1)
    offset = torch.arange(len(table_BT), device=flat.device)[:, None, None] * _ENTRIES

    def transform(q2: Tensor) -> Tensor:
        place = torch.log1p(q2 * _KNEE**-2).mul_(scale).clamp_(max=_ENTRIES - 1.0)
        entry = place.int()
        fraction = place - entry
        entry = (entry + offset).int() if len(table_BT) > 1 else entry
        return torch.addcmul(flat[entry], steps[entry], fraction)

    return transform


class Renderer:
    """Expected counts of the galaxies of a scene; a `stamps.Painter`."""

    def __init__(self, scene: Scene, device: str = "cpu") -> None:
        """Raises InputError where there is no such device."""
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision("highest")
        try:
            self.device = torch.device(device)
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"--device {device}: cannot be used: {str(error).splitlines()[0]}") from error
        self.scene = scene
        fast, slow, stretch, self.edge = _NODES[scene.renderer]
        count = fast if (scene.profile, scene.psf) == ("exponential", "gaussian") else slow
        half = scene.stamp_size / 2
        nodes = int(np.ceil(count * max(1.0, half / _NODES_AT)))
        t, w = (part / 2 for part in np.polynomial.legendre.leggauss(nodes))
        node_K, weight_K = np.sinh(stretch * (t + 0.5)), w * stretch * np.cosh(stretch * (t + 0.5))
        kmax_M = _LOWEST * _STEP ** np.arange(_CLASSES)
        k_MK = kmax_M[:, None] * node_K / np.sinh(stretch)
        # pixel and quadrature weight go into the cosines and sines; 1 / (2 pi^2) is shared by the two axes
        scale_MK = np.sinc(k_MK / 2 / np.pi) * weight_K * kmax_M[:, None] / np.sinh(stretch) / np.sqrt(2) / np.pi
        phase_MKP = k_MK[..., None] * _side(scene.stamp_size)
        self.kmax_M, self.k_MK, self.cos_MKP, self.sin_MKP = (
            torch.tensor(array, dtype=torch.float32, device=self.device)
            for array in (
                kmax_M,
                k_MK,
                np.cos(phase_MKP) * scale_MK[..., None],
                np.sin(phase_MKP) * scale_MK[..., None],
            )
        )
        names = [factor.name for factor in scene.factors]
        self.channels = scene.shape[0]
        self.names = names[self.channels :]

    def __call__(self, values: np.ndarray, first: int, stamps: np.ndarray, between: Callable[[], None]) -> None:
        """Fills stamps (N, C, H, W) for values (N, F), the first of which is galaxy `first` of its design.

        Raises InputError, naming the galaxy that is too small or too large for the nodes.
        """
        for begin in range(first // BLOCK * BLOCK, first + len(values), BLOCK):
            wanted = np.arange(begin, begin + BLOCK) - first
            inside = (wanted >= 0) & (wanted < len(values))
            block = values[np.where(inside, wanted, max(0, begin - first))]
            stamps[wanted[inside]] = self._render(block, first + wanted)[inside]
            between()

    def _render(self, values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """(B, C, H, W) of values (B, F)."""
        factors = torch.tensor(values, dtype=torch.float32, device=self.device)
        p = dict(zip(self.names, factors[:, self.channels :].T, strict=True))
        radius_B, psf_B = p["radius"] / self.scene.pixel_scale, p["psf"] / self.scene.pixel_scale
        transform = TRANSFORMS[self.scene.profile](p)
        class_B = self._classes(transform, radius_B, psf_B, p, numbers)
        k_BK, cos_BKP, sin_BKP = self.k_MK[class_B], self.cos_MKP[class_B], self.sin_MKP[class_B]
        if self.scene.psf == "gaussian":
            psf_BK1 = torch.exp(-0.5 * (k_BK * psf_B[:, None] / _FWHM) ** 2)[..., None]
            cos_BKP, sin_BKP = cos_BKP * psf_BK1, sin_BKP * psf_BK1
        plus_BKK, minus_BKK = self._quadrants(transform, radius_B, p, k_BK)
        if self.scene.psf != "gaussian":
            k2_BKK = (k_BK * psf_B[:, None])[:, :, None] ** 2 + (k_BK * psf_B[:, None])[:, None, :] ** 2
            psf_BKK = self._psf(k2_BKK)
            plus_BKK, minus_BKK = plus_BKK * psf_BKK, minus_BKK * psf_BKK
        even_BPP = torch.bmm(torch.bmm(cos_BKP.mT, plus_BKK + minus_BKK), cos_BKP)
        odd_BPP = torch.bmm(torch.bmm(sin_BKP.mT, plus_BKK.sub_(minus_BKK)), sin_BKP)
        unit_BHW = self._unfold(even_BPP - odd_BPP, even_BPP + odd_BPP)
        return (factors[:, : self.channels, None, None] * unit_BHW[:, None]).cpu().numpy()

    def _psf(self, q2: Tensor) -> Tensor:
        """Transform of the PSF; q = k fwhm."""
        return tabulated(_psf_table(self.scene.psf).to(q2)[None])(q2)

    def _quadrants(
        self, transform: Transform, radius_B: Tensor, p: dict[str, Tensor], k_BK: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The galaxy's transform at (ky, kx) and (ky, -kx), each (B, K, K), rows ky.

        A sheared galaxy's transform at k is that of the round one at S k, S = [[1 + g1, g2], [g2, 1 - g1]] /
        sqrt(1 - g^2).
        """
        g1, g2 = p["g1"], p["g2"]
        scale_B = radius_B**2 / (1 - g1**2 - g2**2)
        xx, yy, xy = scale_B * ((1 + g1) ** 2 + g2**2), scale_B * ((1 - g1) ** 2 + g2**2), scale_B * 4 * g2
        k2_BK = k_BK**2
        sum_BKK = yy[:, None, None] * k2_BK[:, :, None] + xx[:, None, None] * k2_BK[:, None, :]
        cross_BKK = (xy[:, None] * k_BK)[:, :, None] * k_BK[:, None, :]
        return transform(sum_BKK + cross_BKK), transform(sum_BKK.sub_(cross_BKK).clamp_(min=0))

    def _classes(
        self, transform: Transform, radius_B: Tensor, psf_B: Tensor, p: dict[str, Tensor], numbers: np.ndarray
    ) -> Tensor:
        """(B,): the first class at whose kmax galaxy x PSF has fallen to the edge, along the short axis."""
        g_B = torch.hypot(p["g1"], p["g2"])
        stretch_B = torch.sqrt((1 + g_B) / (1 - g_B))
        q2_B1M = ((radius_B / stretch_B)[:, None] * self.kmax_M)[:, None] ** 2
        psf2_B1M = (psf_B[:, None] * self.kmax_M)[:, None] ** 2
        psf_B1M = torch.exp(-0.5 * psf2_B1M / _FWHM**2) if self.scene.psf == "gaussian" else self._psf(psf2_B1M)
        above_BM = (transform(q2_B1M) * psf_B1M)[:, 0] > self.edge
        class_B = above_BM.sum(1).clamp(max=_CLASSES - 1)
        kmax_B = self.kmax_M[class_B]
        turns, size = kmax_B * self.scene.stamp_size / 2, kmax_B * radius_B * stretch_B
        nodes = self.k_MK.shape[1]
        bad = above_BM[:, -1] | (turns > _MOST_TURNS * nodes) | (size > _MOST_SIZE * nodes)
        if bad.any():
            row = int(bad.int().argmax())
            named = ", ".join(f"{name} = {float(column[row]):g}" for name, column in p.items())
            raise InputError(
                f"galaxy {numbers[row]} ({named}): outside what --renderer {self.scene.renderer} draws accurately at "
                f"--pixel-scale {self.scene.pixel_scale:g}; allowed: --renderer galsim"
            )
        return class_B

    def _unfold(self, same_BPP: Tensor, other_BPP: Tensor) -> Tensor:
        """(B, H, W) from the pixels where x and y have the same sign, and the other ones."""
        own = int(self.scene.stamp_size % 2)  # the middle row and column are there once
        upper = torch.cat([other_BPP[:, :, own:].flip(2), same_BPP], 2)
        lower = torch.cat([same_BPP[:, own:, own:].flip(2), other_BPP[:, own:]], 2).flip(1)
        return torch.cat([lower, upper], 1)


def _side(stamp_size: int) -> np.ndarray:
    """(P,): places of the pixels at and right of the centre, in pixels."""
    return np.arange((stamp_size + 1) // 2) + (0.5 if stamp_size % 2 == 0 else 0.0)
