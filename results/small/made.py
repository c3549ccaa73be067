"""Makes up three sets that the product was not made for: spectra, light curves, rings in five bands.

    python results/small/made.py FOLDER    # spectra.npz, curves.npz, rings.npz

N samples, W pixels of a row.
"""

import sys
from pathlib import Path

import numpy as np

RNG = np.random.default_rng(5)


def spectra(n: int = 4000, width: int = 800) -> dict[str, np.ndarray]:
    """Stars from 4,000 to 8,000 angstrom: a black body with 40 metal lines and 4 of hydrogen, shifted, reddened, with
    noise of 1 to 10 % in the mean and 1 % of the pixels lost. Shifts are 20 times too large, to be pixels."""
    wave = np.linspace(4000, 8000, width)
    teff, feh, rv = RNG.uniform(4200, 8500, n), RNG.normal(-0.3, 0.4, n), RNG.normal(0, 150, n)
    snr, reddening = 10 ** RNG.uniform(1, 2, n), RNG.exponential(0.3, n)
    lines, excitation = np.sort(RNG.uniform(4050, 7950, 40)), RNG.uniform(0, 3, 40)
    strength = RNG.uniform(0.05, 0.5, 40)

    def black_body(wave_W: np.ndarray, kelvin: float) -> np.ndarray:
        return 1 / (wave_W * 1e-10) ** 5 / np.expm1(1.4388e-2 / (wave_W * 1e-10 * kelvin))

    flux_NW = np.empty((n, width))
    for i in range(n):
        at_rest = wave / (1 + rv[i] / 3e5 * 20)
        flux = black_body(at_rest, teff[i]) / black_body(np.array(6000.0), teff[i])
        for centre, e, s in zip(lines, excitation, strength, strict=True):
            depth = min(0.95, s * 10 ** (0.6 * feh[i]) * np.exp(-e * (teff[i] - 5000) / 3000))
            flux *= 1 - depth * np.exp(-0.5 * ((at_rest - centre) / 6) ** 2)
        for centre in (4102, 4340, 4861, 6563):
            depth = 0.7 * np.exp(-(((teff[i] - 8500) / 2500) ** 2))
            flux *= 1 - depth * np.exp(-0.5 * ((at_rest - centre) / 15) ** 2)
        flux_NW[i] = flux * 10 ** (-0.4 * reddening[i] * (6000 / wave - 0.5))
    flux_NW *= RNG.uniform(0.5, 2, n)[:, None]
    mean = flux_NW.mean(1, keepdims=True)
    noise = mean / snr[:, None] * np.sqrt(np.clip(flux_NW / mean, 0.1, None))
    seen = (flux_NW + noise * RNG.standard_normal((n, width))).astype("f4")
    seen[RNG.random((n, width)) < 0.01] = np.nan
    factors = {"teff": teff.astype("f4"), "feh": (feh + 0 * RNG.normal(0, 0.05, n)).astype("f4"), "rv": rv.astype("f4")}
    return {
        "flux": seen[:, None, :],
        "sigma": noise.astype("f4")[:, None, :],
        **factors,
        "objid": np.arange(n) + 10**15,
    }


def curves(n: int = 3000, width: int = 128) -> dict[str, np.ndarray]:
    """Variable stars over ten days in two bands; their asymmetry is hidden."""
    period, amplitude = 10 ** RNG.uniform(-0.1, 0.7, n), RNG.uniform(0.05, 0.6, n)
    phase, asymmetry = RNG.uniform(0, 1, n), RNG.uniform(0, 0.4, n)
    turn = 2 * np.pi * (np.linspace(0, 10, width)[None] / period[:, None] + phase[:, None])
    base = amplitude[:, None] * (np.sin(turn) + asymmetry[:, None] * np.sin(2 * turn))
    mag = np.stack([base, 0.6 * base], 1) + RNG.normal(0, 0.02, (n, 2, width))
    given = {"period": period, "amplitude": amplitude, "phase": 360 * phase}
    return {"mag": mag[:, :, None, :].astype("f4")} | {name: values.astype("f4") for name, values in given.items()}


def rings(n: int = 2500, side: int = 40) -> dict[str, np.ndarray]:
    """Counts of a bulge and an inclined ring with up to three knots, which are hidden, in five bands."""
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    radius, inclination, angle = RNG.uniform(5, 14, n), RNG.uniform(0, 75, n), RNG.uniform(0, 180, n)
    colour, light = RNG.uniform(0, 1, n), 10 ** RNG.normal(4.3, 0.35, n)
    images = np.empty((n, 5, side, side), "f4")
    for i in range(n):
        cos, sin = np.cos(np.deg2rad(angle[i])), np.sin(np.deg2rad(angle[i]))
        along, across = x * cos + y * sin, (-x * sin + y * cos) / np.cos(np.deg2rad(inclination[i]))
        far = np.hypot(along, across)
        ring, bulge = np.exp(-0.5 * ((far - radius[i]) / 1.8) ** 2), np.exp(-far / 2.5)
        for _ in range(RNG.integers(0, 4)):
            at = RNG.uniform(0, 6.28)
            a, b = radius[i] * np.cos(at), radius[i] * np.sin(at)
            ring = ring + 1.5 * np.exp(-0.5 * ((along - a) ** 2 + (across - b) ** 2) / 2.0)
        for band in range(5):
            w = np.array([band / 4 * colour[i] + 0.2, (1 - band / 4) * (1 - colour[i]) + 0.2])
            both = w[0] * bulge / bulge.sum() + w[1] * ring / ring.sum()
            images[i, band] = RNG.poisson(light[i] * both / both.sum() + 3)
    given = {"ring": radius, "inclination": inclination, "pa": angle, "colour": colour, "flux": light}
    return {"image": images} | {name: values.astype("f4") for name, values in given.items()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in (spectra, curves, rings):  # in this order: they share their random numbers
        np.savez(folder / f"{make.__name__}.npz", **make())  # type: ignore[arg-type]
