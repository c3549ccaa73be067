"""`python -m hpcauxvae.paper`: the command `hpcauxvae paper`."""

from hpcauxvae.cli import main

main("paper")
