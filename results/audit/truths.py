"""Five truths, twenty seeds: does `hpcauxvae audit` say of each candidate what was put into the images?

    python results/audit/truths.py FOLDER              # makes, trains and audits every seed, and writes README.md
    python results/audit/truths.py FOLDER --seeds 3    # of the first three alone

What lies in FOLDER already is not made again. N images of 16 x 16 pixels.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.audit.verdict import VERDICTS
from hpcauxvae.data.hdf5 import write
from hpcauxvae.runtime.provenance import provenance
from hpcauxvae.types import Factor

SEEDS, N, SIDE, NOISE = 20, 4000, 16, 0.1
AUX = "flux", "size"
TRUTHS = {
    "companion": "adds",
    "surface": "already",
    "lot": "unseen",
    "mixed": "both",
    "psf": "unseen",
}
"""The candidates, and what is true of each."""
HIDDEN = 0.07
"""What a standard deviation of psf changes in an image: root of the sum of squares over the noise of a pixel."""


def drawn(seed: int, n: int = N) -> tuple[NDArray, NDArray]:
    """Images (N, 1, 16, 16), and the factors (N, 7) in the order of AUX and TRUTHS.

    A blob of some flux and size, a companion beside it, a slope of the sky. `surface` is flux over area; `lot` is in
    no image; `mixed` is half the slope of the sky and half the product of flux and size; `psf` widens the blob by far
    less than the noise.
    """
    rng = np.random.default_rng([seed, 16])
    flux, size, companion, slope = rng.uniform((0.5, 1.5, 0, -1), (1.5, 3, 1, 1), (n, 4)).T
    lot, psf = rng.standard_normal((2, n))
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2

    def blob(width: NDArray) -> NDArray:
        return np.exp(-(x**2 + y**2) / (2 * width[:, None, None] ** 2))

    wider = flux[:, None, None] * (blob(1.01 * size) - blob(size))
    wider *= HIDDEN * NOISE / np.sqrt(np.square(wider).sum((1, 2)).mean())
    beside = np.exp(-((x - 5) ** 2 + (y - 5) ** 2) / 4)
    images = flux[:, None, None] * blob(size) + companion[:, None, None] * beside
    images = images + slope[:, None, None] * 0.25 * x / SIDE + psf[:, None, None] * wider
    images = images + NOISE * rng.standard_normal(images.shape)
    mixed = _standard(slope) + _standard(flux * size)
    values = np.stack([flux, size, companion, flux / size**2, lot, mixed, psf], 1)
    return images[:, None].astype(np.float32), values


def _standard(values: NDArray) -> NDArray:
    return np.asarray((values - values.mean()) / values.std())


def make(path: Path, seed: int, n: int = N) -> Path:
    """Writes the set of a seed, unless it is there."""
    if not path.exists():
        images, values = drawn(seed, n)
        ends = np.stack([values.min(0), values.max(0)], 1)
        names = [*AUX, *TRUTHS]
        factors = [Factor(name, "", float(low), float(high)) for name, (low, high) in zip(names, ends, strict=True)]
        write(path, images, values, factors, {"simulator": "results/audit/truths.py", "seed": seed})
    return path


def trained(folder: Path, seed: int, bare: bool = False) -> Path:
    """The run of a seed, without any of the candidates; trained unless it is there. bare: without residual latents."""
    run = folder / f"{'bare' if bare else 'run'}{seed:02}"
    if not (run / "status.json").exists() or json.loads((run / "status.json").read_text())["exit_code"]:
        options = ["--network", "mlp", "--epochs", "10" if bare else "40", "--seed", str(seed), "--device", "cpu"]
        options += ["--latents", str(len(AUX))] * bare + ["--resume", "auto"]
        data = make(folder / f"seed{seed:02}.h5", seed)
        _hpcauxvae("train", str(data), "--aux", ",".join(AUX), "--out", str(run), *options)
    return run


def audited(run: Path, candidate: str) -> dict[str, Any]:
    """What audit.json holds for a run; audited unless it has been."""
    if not (run / "audit.json").exists():
        _hpcauxvae("audit", str(run), "--candidate", candidate, "--device", "cpu", "--no-pictures")
    found: dict[str, Any] = json.loads((run / "audit.json").read_text())
    return found


def _hpcauxvae(*command: str) -> None:
    subprocess.run([sys.executable, "-m", "hpcauxvae", *command], check=True, stdout=subprocess.DEVNULL)


def table(found: list[dict[str, Any]], bare: list[dict[str, Any]]) -> str:
    """A row for each truth; `found` and `bare` have what was said for each seed."""
    head = "| candidate | truth | right | in the code | in the others | added | z | wrong |"
    lines = [head, "|---" * 8 + "|"]
    of = {name: (kind, [seed["candidates"][name] for seed in found]) for name, kind in TRUTHS.items()}
    if bare:
        of["companion, no residual latents"] = ("missed", [seed["candidates"]["companion"] for seed in bare])
    for name, (kind, each) in of.items():
        right = sum(one["verdict"] == kind for one in each)
        wrong = "; ".join(f"seed {n}: {VERDICTS[o['verdict']]}" for n, o in enumerate(each) if o["verdict"] != kind)
        r2 = [_range([one[key]["r2"]["value"] for one in each]) for key in ("latents", "others")]
        gain, z = ([one["beyond"]["residual"][key] for one in each] for key in ("gain", "z"))
        numbers = [*r2, _range([one["value"] for one in gain]), _range(z, 1)]
        lines.append(f"| {name} | {VERDICTS[kind]} | {right} of {len(each)} | {' | '.join(numbers)} | {wrong} |")
    return "\n".join(lines)


def _range(values: list[float], digits: int = 2) -> str:
    low, middle, high = (
        f"{round(v, digits) + 0.0:.{digits}f}".replace("-", "−") for v in np.quantile(values, [0, 0.5, 1])
    )
    return f"{middle} ({low} to {high})"


BARE = "- The last row is `companion` for models with `--latents 2`, both guided: the code has no room for it.\n"
README = """# Audit: five truths

Does `hpcauxvae audit` say of each candidate what was put into the images? {n:,} images of 16 × 16 pixels for each of
{seeds} seeds; 10 % of them are test images. `flux` and `size` of a blob are auxiliary. `truths.py` draws the images and
says what each candidate is.

- `companion` moves pixels alone.
- `surface` is a function of flux and size.
- `lot` is in no image.
- `mixed` is half the slope of the sky, half the product of flux and size.
- `psf` changes an image by {hidden} of the noise, pixels taken together: a perfect reader has R² {best:.3f}.
{bare}
One training serves the five candidates of a seed. The level is {level:g} for each candidate. Numbers are the median
over seeds, with the smallest and the largest.

{table}

{time}, {machine}; trained with the code of these commits (+: and changes to it): {commits}.
Audited with that of {audited}.

    python results/audit/truths.py FOLDER{options}
"""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--bare", type=int, default=SEEDS, help="seeds of which a model without residual latents is made"
    )
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    found = [audited(trained(given.folder, seed), "all") for seed in range(given.seeds)]
    bare = [audited(trained(given.folder, seed, bare=True), "companion") for seed in range(given.bare)]
    starts = [(given.folder / f"run{seed:02}" / "starts.jsonl").read_text() for seed in range(given.seeds)]
    about, commits = provenance(), sorted({json.loads(text.splitlines()[0])["commit"] for text in starts})
    text = README.format(
        n=N, seeds=given.seeds, hidden=HIDDEN, best=HIDDEN**2 / (1 + HIDDEN**2), level=found[0]["level"],
        bare=BARE if bare else "", table=table(found, bare), time=about["time"][:10],
        machine=about["machine"].split(", ", 1)[1], commits=", ".join(commits), audited=about["commit"],
        options="".join(f" --{key} {n}" for key, n in (("seeds", given.seeds), ("bare", given.bare)) if n != SEEDS),
    )  # fmt: skip
    (Path(__file__).parent / "README.md").write_text(text)
    print(table(found, bare))


if __name__ == "__main__":
    main()
