"""How long it takes until Snakemake knows what to do, for many calculation folders. Nothing is computed.

python benchmarks/dry_run.py [10 1000 100000]
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = """
datasets: {many: {}}
models: {network: {datasets: [many]}}
targets: {twisted: {twist: {m: 1, n: 2}}}
"""


def project(folder: Path, calculations: int) -> None:
    """A project with so many folders, each with the one file by which OpenMX is recognised."""
    for name in ("workflow", "profiles", "envs"):
        shutil.copytree(REPOSITORY / name, folder / name)
    shutil.copy(REPOSITORY / "Snakefile", folder)
    (folder / "slurm").symlink_to("profiles/slurm")
    (folder / "config.yaml").write_text(CONFIG)
    for number in range(calculations):
        place = folder / f"data/many/{number // 1000:03d}/{number % 1000:03d}"
        place.mkdir(parents=True)
        (place / "openmx.scfout").touch()


def planned(folder: Path) -> tuple[float, float, float]:
    """Seconds on the clock, seconds of the processor, and GB of memory of a dry run with the profile of the cluster."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    since = time.perf_counter()
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--dry-run", "--quiet", "all"]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - since
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, after.ru_maxrss / 2**20


def main() -> None:
    """Print the table."""
    print("calculations  dry run  wall (s)  CPU (s)  memory so far (GB)")
    for calculations in map(int, sys.argv[1:] or ("1000", "10000", "100000")):
        with tempfile.TemporaryDirectory() as folder:
            project(Path(folder), calculations)
            for which in ("first", "second"):
                seconds, cpu, memory = planned(Path(folder))
                print(f"{calculations:12d}  {which:7s}  {seconds:8.1f}  {cpu:7.1f}  {memory:18.2f}", flush=True)


if __name__ == "__main__":
    main()
