#!/usr/bin/env bash
# Run by Snakemake, in the folder where it was started, after it made the environment of cpu.yaml.
set -euo pipefail
python -m pip install --constraint constraints.txt --editable .
