#!/bin/bash
# Train in the image that build.sh has built: alone, under srun, and with slurm/train.sbatch, on a SLURM of this machine.
#
#     tests/container/try.sh /tmp/container
#
# APPTAINER: the program, where it is not on PATH. TASKS: processes of the run with the script (default 2).
set -euo pipefail
work=$(readlink -f "$1")
project=$(readlink -f "$(dirname "$0")/../..")
tasks=${TASKS:-2}
PATH=$(dirname "$(command -v "${APPTAINER:-apptainer}")"):$PATH
rm -rf "$work/project" && mkdir "$work/project" && cd "$work/project"
quick=(trainer.max_epochs=2 hardness.window=1 task.train_size=200 task.dev_size=100 trainer.accelerator=cpu
       trainer.enable_progress_bar=false)
run=(apptainer run -B "$(pwd)" "$work/image" train "${quick[@]}")

"${run[@]}" hydra.run.dir=alone

cluster() { PYTHONPATH=$project python3 -m tests.slurm.cluster "$@"; }
cluster start "$work/slurm"
trap 'cluster stop "$work/slurm"' EXIT
. "$work/slurm/env.sh"
timeout 600 srun --ntasks-per-node=1 --job-name=train "${run[@]}" hydra.run.dir=under-srun
job=$(SHARCS_IMAGE=$work/image sbatch --parsable --ntasks-per-node="$tasks" "$project/slurm/train.sbatch" "${quick[@]}")
for _ in $(seq 600); do [ -z "$(squeue --noheader --jobs "$job" 2> /dev/null)" ] && break; sleep 1; done
cat "slurm-$job.out"
for folder in alone under-srun "runs/slurm-$job"; do
    echo "$folder: $(grep -A1 '"routed"' "$folder/metrics.json" | tr -d ' \n')"
done
echo "trained alone, under srun and with the script on $tasks processes"
