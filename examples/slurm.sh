#!/usr/bin/env bash
# Train on several nodes, and continue after the time limit or the loss of a node:
#
#     sbatch examples/slurm.sh photos/ runs/photos -s data.image_size=64
#
# Every node must see the run directory. docs/distributed.md explains each line.
#SBATCH --job-name=iddpm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@180

set -uo pipefail
data=$1 run=$2
shift 2
if [ -f "$run/config.yaml" ]; then start=(--resume); else start=("$data"); fi
rm -f "$run/exit.json"  # what an earlier start left
before=$(cat "$run/latest" 2>/dev/null)
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun torchrun \
    --nnodes "$SLURM_NNODES" --nproc-per-node "$SLURM_GPUS_ON_NODE" \
    --rdzv-backend c10d --rdzv-endpoint "$first:${MASTER_PORT:-29500}" --rdzv-id "$SLURM_JOB_ID" \
    --signals-to-handle SIGTERM,SIGINT,SIGUSR1 --shutdown-timeout 150 \
    -m iddpm train "${start[@]}" --out "$run" "$@"

# torchrun always exits with status 1; exit.json records how the run ended.
reason=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["reason"])' \
    "$run/exit.json" 2>/dev/null || echo nothing)
echo "job $SLURM_JOB_ID: $run/exit.json says $reason"
case "$reason" in
    finished)
        exit 0 ;;
    "stopped by SIGUSR1" | "stopped by SIGTERM" | "time is up" | "rank lost" | "worker lost" | nothing)
        if [ "$(cat "$run/latest" 2>/dev/null)" = "$before" ]; then
            echo "nothing was saved since the start: not queued again"
            exit 1
        fi
        scontrol requeue "$SLURM_JOB_ID" ;;
    *)  # such as diverged, or bad input: somebody has to look
        exit 1 ;;
esac
