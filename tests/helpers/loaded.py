"""What a forked process has loaded when it starts: all that the commands import, at once or on their way."""

import contextlib
import importlib

from hpcauxvae.cli import COMMANDS

ON_THEIR_WAY = ["torch._dynamo", "torch.utils.tensorboard", "scipy.stats", "sklearn.linear_model", "matplotlib.pyplot"]
ON_THEIR_WAY += [f"hpcauxvae.evaluate.{name}" for name in ("scores", "encode", "sensitivity")]
for module in [*ON_THEIR_WAY, *(where.partition(":")[0] for where, _ in COMMANDS.values())]:
    with contextlib.suppress(ImportError):  # not all of them need be installed
        importlib.import_module(module)
