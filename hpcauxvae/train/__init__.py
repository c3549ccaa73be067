"""Training: configuration, the loop, gradients, checkpoints, a finished run."""
