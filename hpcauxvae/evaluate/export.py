"""A trained model as a file to share: `hpcauxvae export RUN model.safetensors`, or encoder and decoder as ONNX.

What is written is read back and compared before it has its name. Shape legend in types.py.
"""

import copy
import importlib.util
import json
import logging
import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import hpcauxvae
from hpcauxvae.data.hdf5 import refuse_existing
from hpcauxvae.evaluate.calibration import KEPT, load_calibration
from hpcauxvae.evaluate.command import ExportConfig
from hpcauxvae.evaluate.records import kept
from hpcauxvae.models.networks import plain
from hpcauxvae.runtime.files import whole
from hpcauxvae.train import checkpoint
from hpcauxvae.train.run import Run, load_run, summary_of
from hpcauxvae.types import InputError

TOLERANCE = 1e-4
"""Of the largest value: so far what ONNX gives may be from what torch gives."""
_TRIED = 5
"""Images that are compared; and one alone, for a batch of another size."""
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export(config: ExportConfig) -> dict[Path, str]:
    """Writes the files that were asked for; returns their paths, and what each is. Raises InputError."""
    makers = {".safetensors": _share, ".onnx": _to_onnx}
    if config.out.suffix not in makers:
        raise InputError(f"out = {config.out}; allowed: a name that ends in {', '.join(makers)}")
    names = [config.out.with_suffix(f".{part}.onnx") for part in ("encoder", "decoder")]
    paths = names if config.out.suffix == ".onnx" else [config.out]
    for path in paths:
        refuse_existing(path)
    run = load_run(config.run, checkpoint.BY_NAME[config.checkpoint])
    return makers[config.out.suffix](run, config, paths)


def _share(run: Run, config: ExportConfig, paths: list[Path]) -> dict[Path, str]:
    """A checkpoint of the model alone, with all that lies beside it in the folder of the run."""
    (path,) = paths
    weights = run.model.state_dict()
    state = run.state | {"summary": summary_of(run, config.data)._asdict(), "kept": kept(run)}
    tensors, beside = {f"model.{name}": tensor for name, tensor in weights.items()}, "not calibrated; "
    if (calibration := load_calibration(run)) is not None:
        own, state["calibration"] = calibration.packed()
        tensors |= {f"{KEPT}{name}": tensor for name, tensor in own.items()}
        beside = ""
    checkpoint.write(path, tensors, state)
    again = load_run(path).model.state_dict()
    if bad := [name for name, tensor in weights.items() if not torch.equal(tensor, again[name])]:
        path.unlink()
        raise RuntimeError(f"{path}: {bad[0]} is not read back as it was written")
    size = path.stat().st_size / 1e6
    return {path: f"{size:.1f} MB: {beside}hpcauxvae.load({str(path)!r}) reads it back, bit for bit"}


class _Inward(nn.Module):
    def __init__(self, run: Run) -> None:
        super().__init__()
        self.model = run.model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.model.encode(images)
        return mean, logvar


class _Outward(nn.Module):
    def __init__(self, run: Run) -> None:
        super().__init__()
        self.model = run.model

    def forward(self, z: Tensor) -> Tensor:
        return self.model.decode(z)


def _to_onnx(run: Run, config: ExportConfig, paths: list[Path]) -> dict[Path, str]:
    """Encoder and decoder as graphs of float32 from and to linear data units, for any number of images at once."""
    _refuse_lacking(config.out)
    if run.model.SEES_LABELS:
        raise InputError(
            f"{config.out}: the encoder of model {run.config.model} needs labels; allowed: one that sees images alone"
        )
    exported = _single(run)
    images, z = _examples(exported)
    graphs: list[tuple[Path, nn.Module, Tensor, str, list[str]]] = [
        (paths[0], _Inward(exported), images, "images", ["mean", "logvar"]),
        (paths[1], _Outward(exported), z, "z", ["images"]),
    ]
    found = {}
    with ExitStack() as files:
        for path, module, values, of, to in graphs:
            part = files.enter_context(whole(path))
            _graph(module, values, of, to, run).save(part, external_data=False)
            found[path] = f"{of} to {' and '.join(to)}, within {_apart(part, module, values):.0e} of torch's"
    return found


def decoder_graph(run: Run) -> bytes:
    """The decoder alone: what the file *.decoder.onnx of `export` holds, compared with torch's as there.

    Takes z (N, Z), gives images (N, C, H, W) in linear data units. Raises InputError without the packages of ONNX.
    """
    _refuse_lacking(run.folder)
    exported = _single(run)
    z = _examples(exported)[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decoder.onnx"
        _graph(_Outward(exported), z, "z", ["images"], run).save(path, external_data=False)
        _apart(path, _Outward(exported), z)
        return path.read_bytes()


def _refuse_lacking(path: Path) -> None:
    if lacking := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise InputError(f"{path}: ONNX needs {', '.join(lacking)}; `pip install 'hpcauxvae[export]'` mends it")


def _single(run: Run) -> Run:
    """The run with a copy of its model, in float32 and on the CPU as ONNX wants it."""
    model = copy.deepcopy(run.model).cpu().float().eval()
    plain(model)
    return Run(folder=run.folder, config=run.config, model=model, state=run.state)


@torch.no_grad()
def _examples(run: Run) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) that the model draws, some pixels missing where it can do without, and their codes (N, Z)."""
    z = torch.randn(_TRIED, run.config.latents, generator=torch.Generator().manual_seed(0))
    z[:, : sum(len(guide.columns) for guide in run.guides)] = torch.linspace(0, 1, _TRIED)[:, None]
    images = run.model.decode(z)
    if run.config.resolved_objective.leaves_out:
        images[1::2, :, : images.shape[2] // 2, ::3] = torch.nan
    return images, z


def _graph(module: nn.Module, values: Tensor, of: str, to: list[str], run: Run) -> Any:
    """torch.onnx's program; it knows the factors, and what the latents are."""
    chatter = logging.getLogger("torch.onnx")
    before = chatter.level
    try:
        chatter.setLevel(logging.ERROR)  # of operators of other packages that are not there
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module, (values[:2],), dynamo=True, verbose=False,
                dynamic_shapes={of: {0: torch.export.Dim("batch")}}, input_names=[of], output_names=to,
            )  # fmt: skip
    finally:
        chatter.setLevel(before)
    assert program is not None
    about = {
        "hpcauxvae": hpcauxvae.__version__,
        "model": run.config.model,
        "step": run.state["step"],
        "weights": run.digest,
        "image_unit": str(run.state.get("summary", {}).get("provenance", {}).get("image_unit", "")),
        "factors": [factor._asdict() for factor in run.factors],
        "columns": [column._asdict() for guide in run.guides for column in guide.columns],
        "guides": [
            {"factor": guide.factor.name, "columns": [column.name for column in guide.columns], "levels": guide.levels}
            for guide in run.guides
        ],
        "guided": run.model.GUIDED,
        "latents": run.config.latents,
    }
    program.model.metadata_props["hpcauxvae"] = json.dumps(about)
    return program


@torch.no_grad()
def _apart(path: Path, module: nn.Module, values: Tensor) -> float:
    """How far the outputs of a file are from the module's, in units of the largest.

    Raises RuntimeError where too far.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name, worst = session.get_inputs()[0].name, 0.0
    for some in (values, values[-1:]):
        found, wanted = session.run(None, {name: some.numpy()}), module(some)
        for one, other in zip(found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            worst = max(worst, _distance(one, other.numpy()))
    if not worst <= TOLERANCE:
        raise RuntimeError(f"{path}: ONNX gives values {worst:.1e} of the largest from torch's; allowed: {TOLERANCE:g}")
    return worst


def _distance(one: NDArray, other: NDArray) -> float:
    if one.shape != other.shape:
        return np.inf
    return float(np.abs(one - other).max() / max(np.abs(other).max(), np.finfo(np.float32).tiny))
