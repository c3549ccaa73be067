"""The gradient of a global batch: at once, in parts that fit in memory, or as a CUDA graph.

Each is called with this rank's batch, its noise (B, Z) and how the global mean is made, leaves the gradients in the
parameters, and returns this rank's loss terms, detached; their mean over ranks is the global value. Shape legend in
types.py.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hpcauxvae.models.base import Model
from hpcauxvae.runtime.collectives import slice_of
from hpcauxvae.types import Batch, LossTerms, Posterior, Reduction

_WARM_UP = 11
"""Eager steps before a capture: what DDP needs to settle its buckets."""


class AtOnce:
    """One forward and one backward pass."""

    def __init__(self, parallel: nn.Module, bf16: bool) -> None:
        """parallel: the model, in DDP where there are several ranks. bf16: compute its layers in bfloat16."""
        self.parallel, self.bf16 = parallel, bf16

    def __call__(self, batch: Batch, noise_BZ: Tensor, reduction: Reduction) -> LossTerms:
        """Leaves the gradients in the parameters; returns the terms."""
        self.parallel.zero_grad()
        return self.backward(batch, noise_BZ, reduction)

    def backward(self, batch: Batch, *arguments: Any) -> LossTerms:
        """Adds to the gradients. arguments: what follows the batch in the forward pass."""
        with self.autocast(batch):
            terms = self.parallel(batch, *arguments)
        loss = torch.stack(list(terms.values())).sum()
        loss.backward(1 + 0 * loss.detach())  # a rank's infinite loss makes the gradient of all NaN
        return {name: value.detach() for name, value in terms.items()}

    def autocast(self, batch: Batch) -> torch.autocast:
        """Moments and losses are outside of what it touches."""
        return torch.autocast(batch.images.device.type, torch.bfloat16, enabled=self.bf16)


class PartOfBatch(nn.Module):
    """The loss of a part of a batch, in which the derivatives of the whole batch's terms stand in for these terms."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, noise_BZ: Tensor, reduction: Reduction, pull: Posterior | None) -> LossTerms:
        """pull: derivatives of the terms of the whole batch with respect to the means and log-variances of this part.

        The value of the term `pull` means nothing, its gradient is theirs.
        """
        terms, posterior = self.model.sample_terms(batch, noise_BZ, reduction)
        if pull is not None:
            terms["pull"] = (posterior.mean * pull.mean).sum() + (posterior.logvar * pull.logvar).sum()
        return terms


class Accumulated:
    """The same gradient from parts of the batch in turn, for the memory of a single part.

    Terms of the whole batch come first: all codes without a graph, the terms of these, and their derivatives with
    respect to the codes, which each part's backward pass then takes up (GradCache, Gao et al. 2021). It costs a second
    forward pass of the encoder.
    """

    def __init__(self, at_once: AtOnce, model: Model, parts: int) -> None:
        """at_once: of a PartOfBatch of the model."""
        self.at_once, self.model, self.parts = at_once, model, parts

    def __call__(self, batch: Batch, noise_BZ: Tensor, reduction: Reduction) -> LossTerms:
        """As AtOnce."""
        self.at_once.parallel.zero_grad()
        parts = [slice_of(len(noise_BZ), part, self.parts) for part in range(self.parts)]
        terms: LossTerms = {}
        derivatives: Posterior | None = None
        if self.model.overrides("batch_terms"):
            terms, derivatives = self._batch_terms(batch, noise_BZ, reduction, parts)
        for number, part in enumerate(parts, 1):
            own = batch.each(lambda tensor, part=part: tensor[part])  # type: ignore[misc]
            pull = None if derivatives is None else Posterior(*(tensor[part] for tensor in derivatives))
            with self._alone() if number < len(parts) else contextlib.nullcontext():
                for name, value in self.at_once.backward(
                    own, noise_BZ[part], reduction.after(part.start), pull
                ).items():
                    if name != "pull":
                        terms[name] = terms.get(name, 0) + value
        return terms

    def _batch_terms(
        self, batch: Batch, noise_BZ: Tensor, reduction: Reduction, parts: list[slice]
    ) -> tuple[LossTerms, Posterior]:
        """Those of the whole batch, and their derivatives with respect to its codes."""
        u_BD, images = self.model.factors(batch), batch.shown()
        with torch.no_grad(), self.at_once.autocast(batch):
            posteriors = [self.model.encode(images[part], u_BD[part]) for part in parts]
        codes = Posterior(*(torch.cat(tensors).requires_grad_() for tensors in zip(*posteriors, strict=True)))
        terms = self.model.batch_terms(batch, codes, noise_BZ, reduction)
        if terms:
            torch.stack(list(terms.values())).sum().backward()
        derivatives = (torch.zeros_like(code) if code.grad is None else code.grad for code in codes)
        return {name: value.detach() for name, value in terms.items()}, Posterior(*derivatives)

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """Without summing over ranks, which once at the end is enough."""
        parallel = self.at_once.parallel
        return parallel.no_sync() if isinstance(parallel, DistributedDataParallel) else contextlib.nullcontext()


@contextlib.contextmanager
def graph_stream(wanted: bool, device: torch.device) -> Iterator[torch.cuda.Stream | None]:
    """A stream, made the current one, to build DDP on: a graph can be captured on no other. None where there is none.

    wanted: whether the configuration asks for a graph, which only devices of type cuda have.
    """
    if not wanted or device.type != "cuda":
        yield None
        return
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())  # which has prepared the weights
    with torch.cuda.stream(stream):
        yield stream
    torch.cuda.current_stream().wait_stream(stream)


class Graphed:
    """The forward and backward pass as a CUDA graph: at small batches launching kernels takes longer than running them.

    The first steps run as they are; then a step is captured, and from there on replayed on the same memory. Adam's step
    follows outside, a single launch when fused: the learning-rate cycle gives it another beta1 each time, which a graph
    would not see.
    """

    def __init__(self, at_once: AtOnce, stream: torch.cuda.Stream) -> None:
        """stream: of `graph_stream`."""
        self.at_once, self.stream = at_once, stream
        self.eager_steps = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: tuple[Batch, Tensor] | None = None
        self.terms: LossTerms = {}

    def __call__(self, batch: Batch, noise_BZ: Tensor, reduction: Reduction) -> LossTerms:
        """As AtOnce."""
        if self.eager_steps < _WARM_UP:
            self.eager_steps += 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                terms = self.at_once(batch, noise_BZ, reduction)
            torch.cuda.current_stream().wait_stream(self.stream)
            return terms
        if self.inputs is None:
            self.inputs = batch.each(Tensor.clone), noise_BZ.clone()
        for kept, given in zip((*self.inputs[0].tensors(), self.inputs[1]), (*batch.tensors(), noise_BZ), strict=True):
            kept.copy_(given)
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            # Other threads may go on: the reader fills pinned memory meanwhile.
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                self.terms = self.at_once(*self.inputs, reduction)
        self.graph.replay()
        return self.terms
