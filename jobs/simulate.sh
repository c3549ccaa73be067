#!/bin/bash
# Simulates galaxies with GalSim, one rank a core, into one HDF5 file. Stopped, it goes on where it was.
#
#   hpcauxvae submit jobs/simulate.sh --site perlmutter OUT=galaxies.h5 N=1048576 SEED=7 -- --nodes=4
#   OUT=galaxies.h5 N=16384 sbatch --account=m1234 jobs/simulate.sh
#SBATCH --job-name=hpcauxvae-simulate
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=32
#SBATCH --time=01:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
SETTINGS='
OUT!              the HDF5 file to make
N=16384           galaxies
SEED=0            of the design and of the noise
SIMULATE_OPTIONS  further options of hpcauxvae simulate
'
source "${JOBS:-${SLURM_SUBMIT_DIR:-.}/jobs}/lib.sh"
simulate
