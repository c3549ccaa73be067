#!/bin/bash
# Trains a model, one rank a GPU, on one node or many. Preempted or near its time limit it saves, requeues itself and
# goes on.
#
#   hpcauxvae submit jobs/train_a100.sh --site perlmutter DATA=galaxies.h5 AUX=radius,g1,g2 OUT=runs/case2 -- --nodes=2
#   DATA=galaxies.h5 AUX=radius,g1,g2 OUT=runs/case2 sbatch --account=m1234 jobs/train_a100.sh
#SBATCH --job-name=hpcauxvae-train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
SETTINGS='
DATA!          HDF5 file of labelled images
AUX!           its factors that guide the first latents
OUT!           folder of the run
DEVICE=cuda    where it trains
TRAIN_OPTIONS  further options of hpcauxvae train
'
source "${JOBS:-${SLURM_SUBMIT_DIR:-.}/jobs}/lib.sh"
train
