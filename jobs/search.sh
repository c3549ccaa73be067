#!/bin/bash
# Searches for hyperparameters over the whole allocation: the search runs on the first node, and each of its trials is a
# step of one GPU (or of `--processes` GPUs). Near its time limit it stops, requeues itself and goes on with every row.
#
#   hpcauxvae submit jobs/search.sh --site perlmutter DATA=galaxies.h5 AUX=radius,g1,g2 OUT=searches/x -- --nodes=4
#SBATCH --job-name=hpcauxvae-search
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
SETTINGS='
DATA!           HDF5 file of labelled images
AUX!            its factors that guide the first latents
OUT!            folder of the search
DEVICE=cuda     where it trains
SEARCH_OPTIONS  further options of hpcauxvae search, such as --max-evals 400
'
source "${JOBS:-${SLURM_SUBMIT_DIR:-.}/jobs}/lib.sh"
SEARCH_OPTIONS="--launcher slurm $SEARCH_OPTIONS"
search
