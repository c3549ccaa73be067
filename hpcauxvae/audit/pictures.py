"""Pictures of an audit: what of each candidate is where, and what of the image changes with it.

Images are drawn as data/drawing.py says. Shape suffixes: N samples, R residual latents in use, C, H, W of an image.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.patches import Patch
from numpy.typing import NDArray

from hpcauxvae.audit.findings import Auditor, Found
from hpcauxvae.audit.verdict import VERDICTS
from hpcauxvae.data import drawing
from hpcauxvae.data.drawing import BLUE, GREY, INK, MAROON, PALE, STYLE, bare, save, sheet

_BASES = 64
"""Test images that are changed, whose mean is drawn."""
_PARTS = (
    ("in the auxiliary variables", MAROON),
    ("added by the residual latents", BLUE),
    ("beyond them, told by a reader of images alone", GREY),
    ("not seen", PALE),
)


def change(auditor: Auditor, found: Found, path: Path) -> None:
    """The mean image, with little and with much of what a candidate adds, and the difference of the two."""
    low_CHW, mean_CHW, high_CHW = (drawing.upright(image, auditor.data) for image in changed(auditor, found))
    look, name = drawing.look_of(auditor.data), found.candidate.name
    scale = drawing.scale_of(np.stack([low_CHW, mean_CHW, high_CHW]), look)
    difference_CHW = look.hidden((high_CHW - low_CHW).mean(0, keepdims=True))
    of_difference = drawing.residual_scale(difference_CHW)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(1, 4, 7.6, 2.1)
        titles = (f"less {name}", "mean image", f"more {name}", "difference")
        images = (look.hidden(low_CHW), look.hidden(mean_CHW), look.hidden(high_CHW), difference_CHW)
        for ax, title, image in zip(axes[0], titles, images, strict=True):
            drawing.stamp(ax, image, of_difference if title == "difference" else scale)
            ax.set_title(title, fontsize=8)
            bare(ax)
        drawing.values(figure, axes[:, 3:], difference_CHW, of_difference, look.unit)
        save(figure, path)


def changed(auditor: Auditor, found: Found) -> tuple[NDArray, NDArray, NDArray]:
    """Mean decoded images (C, H, W) with less, as they are, and with more of what the residual latents add.

    The direction is that from the mean code of the third of the test images to which the residual latents add least to
    that of the third to which they add most; the codes of `_BASES` test images are moved by half of it to either side.
    """
    mean_NZ = auditor.mean_NZ[found.test_N]
    column = int(found.residual.added_NT.var(0).argmax())
    order = found.residual.added_NT[:, column].argsort()
    third = max(1, len(order) // 3)
    step_Z = mean_NZ[order[-third:]].mean(0) - mean_NZ[order[:third]].mean(0)
    step_Z[: auditor.guided] = 0
    step_Z[auditor.off_Z] = 0
    some = mean_NZ[np.linspace(0, len(mean_NZ) - 1, min(_BASES, len(mean_NZ))).astype(int)]
    low, middle, high = (auditor.run.decode(some + share * step_Z).mean(0) for share in (-0.5, 0.0, 0.5))
    return low, middle, high


def overview(found: dict[str, Any], path: Path) -> None:
    """A bar for each candidate: which part of its variance is where."""
    names = list(found["candidates"])
    with mpl.rc_context(STYLE):
        figure, axes = sheet(1, 1, 7.6, 0.9 + 0.42 * len(names))
        ax = axes[0, 0]
        for row, of in enumerate(found["candidates"].values()):
            left = 0.0
            for part, (_, colour) in zip(parts_of(of), _PARTS, strict=True):
                ax.barh(row, part, left=left, color=colour, height=0.6)
                left += part
            ax.annotate(VERDICTS[of["verdict"]], (1.02, row), va="center", fontsize=8, color=INK, annotation_clip=False)
        ax.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)), xlabel="share of the variance")
        ax.set_yticklabels(names)
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        handles = [Patch(color=colour, label=label) for label, colour in _PARTS]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, fontsize=7.5)
        save(figure, path)


def parts_of(of: dict[str, Any]) -> list[float]:
    """The shares of `_PARTS`, which sum to 1."""
    old = min(1.0, max(0.0, of["others"]["r2"]["value"]))
    code = min(1 - old, max(0.0, of["beyond"]["residual"]["gain"]["value"]))
    reader = of["beyond"]["reader"]
    seen = 0.0 if reader is None else min(1 - old, max(0.0, reader["gain"]["value"]))
    more = max(0.0, seen - code)
    return [old, code, more, 1 - old - code - more]
