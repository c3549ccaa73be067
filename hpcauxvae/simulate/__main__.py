"""`python -m hpcauxvae.simulate`: the command `hpcauxvae simulate`."""

from hpcauxvae.cli import main

main("simulate")
