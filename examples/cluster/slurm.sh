#!/bin/sh
# Two machines, four ranks on each, as a job of Slurm: sbatch slurm.sh run.yaml
# The folder, with node_modules, the model, and the data, has to be on a file system that all machines share.
#SBATCH --job-name=lowrank
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
# SIGTERM comes two minutes before the end, so that there is time for a checkpoint to resume from.
#SBATCH --signal=TERM@120

# `srun --mpi=list` names the ways that are built in: pmix for Open MPI, pmi2 for MPICH and Intel MPI.
exec srun --mpi=pmix --kill-on-bad-exit=1 --cpu-bind=cores node_modules/.bin/lowrank train "$@"
