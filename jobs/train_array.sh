#!/bin/bash
# Trains several models, one GPU each, as the tasks of an array: a seed each, or a line of CASES each. Preempted or near
# its time limit a task saves, requeues itself and goes on.
#
#   hpcauxvae submit jobs/train_array.sh --site swing DATA=galaxies.h5 AUX=radius,g1,g2 OUT=runs/seeds -- --array=0-4
#SBATCH --job-name=hpcauxvae-array
#SBATCH --array=0-2
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail
SETTINGS='
DATA!          HDF5 file of labelled images
AUX!           its factors that guide the first latents
OUT!           folder of the runs: OUT/0, OUT/1 ...
CASES          file of options of hpcauxvae train: line 1 for task 0, and so on; without it --seed 0, 1 ...
DEVICE=cuda    where it trains
TRAIN_OPTIONS  options for all tasks
'
task=$SLURM_ARRAY_TASK_ID
OUT=${OUT:+$OUT/$task}
source "${JOBS:-$SLURM_SUBMIT_DIR/jobs}/lib.sh"
options="--seed $task"
if [ -n "$CASES" ]; then
    options=$(sed -n "$((task + 1))p" "$CASES")
    [ -n "$options" ] || { say "CASES has no line $((task + 1)): $CASES" && exit 2; }
fi
say "task $task: $options"
TRAIN_OPTIONS+=" $options"
train
