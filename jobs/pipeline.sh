#!/bin/bash
# Submits the whole chain to Slurm, each job after those that it needs, and prints their numbers. On the login node,
# with any setting of the scripts and of the site beside those below:
#
#   bash jobs/pipeline.sh SITE=perlmutter ACCOUNT=m1234 FOLDER=case2 AUX=radius,g1,g2 N=1048576
set -euo pipefail
for setting in "$@"; do
    [[ $setting =~ ^[A-Z_]+= ]] || { echo "error: $setting: allowed: NAME=VALUE" >&2 && exit 2; }
    export "${setting?}" # those of the scripts and of the site are theirs to read
done
jobs=$(dirname "${BASH_SOURCE[0]}")
source "$jobs/settings.sh"
settings '
FOLDER!          for the data (galaxies.h5, fresh.h5) and the run (run/); what is there already is not made again
AUX!             the factors that guide the first latents
N=16384          galaxies to train on
FRESH_N=32768    galaxies to judge by
SEED=7           of the galaxies; those to judge by have the next
SITE             settings of the cluster: sites/SITE.env
SIMULATE_SBATCH  options of sbatch for the simulations
TRAIN_SBATCH     options of sbatch for the training, such as --nodes=4
EVALUATE_SBATCH  options of sbatch for the evaluation
'
mkdir -p "$FOLDER"

# submit SCRIPT NEEDED OPTIONS SETTING...: NEEDED are the numbers of jobs that must have succeeded, a colon before each.
submit() {
    local script=$1 needed=$2 options=$3
    shift 3
    # shellcheck disable=SC2086  # the options are words
    python -m hpcauxvae submit "$jobs/$script" ${SITE:+--site "$SITE"} "$@" -- $options \
        ${needed:+"--dependency=afterok$needed" --kill-on-invalid-dep=yes} | sed 's/;.*//; s/^/:/'
}

galaxies='' fresh=''
simulate() { submit simulate.sh '' "$SIMULATE_SBATCH" OUT="$1" N="$2" SEED="$3"; }
[ -f "$FOLDER/galaxies.h5" ] || galaxies=$(simulate "$FOLDER/galaxies.h5" "$N" "$SEED")
[ -f "$FOLDER/fresh.h5" ] || fresh=$(simulate "$FOLDER/fresh.h5" "$FRESH_N" "$((SEED + 1))")
run=$(submit train_a100.sh "$galaxies" "$TRAIN_SBATCH" DATA="$FOLDER/galaxies.h5" AUX="$AUX" OUT="$FOLDER/run")
scores=$(submit evaluate.sh "$run$fresh" "$EVALUATE_SBATCH" \
    RUN="$FOLDER/run" DATA="$FOLDER/galaxies.h5" FRESH="$FOLDER/fresh.h5")
echo "simulate ${galaxies#:}, simulate to judge by ${fresh#:}, train ${run#:}, evaluate ${scores#:}"
