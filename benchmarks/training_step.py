"""Seconds, memory and operations of a training step: ours in the frames of the edges, beside the same network of e3nn.

    python benchmarks/training_step.py [--threads 1] [--repeat 7]
    python benchmarks/training_step.py --device cuda [--batch 8] [--matmul bf16] [--compile] [--cuda-graphs]

Both have DeepH-E3's default size (64x0e+32x1o+16x2e+8x3o+8x4e, 3 updates, harmonics up to l = 4) and take the same graph, a
bilayer of 16 carbon atoms from the embedded example, `--batch` times. A step is forward, backward and optimiser (AdamW; the
last row has Muon, the default of training). The e3nn
network is the Clebsch-Gordan form of ours: the same convolutions (product with the harmonics, function of length, gate, second
product), norms and read-outs. It runs where a GPU is asked for too; compiled code and reduced digits are for ours alone.

What limits a step is judged by three times that it could not go below: its operations at the speed of a large product of
matrices, its bytes (read and written by every operation, nothing kept in a cache) at the speed of a large copy, and its
operations' launches at the time that one on four numbers takes. All are measured in the same process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from e3nn import nn as enn
from e3nn import o3
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from orbitrace import models, readers
from orbitrace.graphs.assembly import Assembly
from orbitrace.graphs.batches import Batch, collate
from orbitrace.graphs.labels import fit_labeller
from orbitrace.learning import TrainSection
from orbitrace.nets.radial import RadialNetwork
from orbitrace.training import numerics
from orbitrace.training.optimizer import make_optimizer

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "bilayer_graphene" / "data" / "bilayers" / "000"
IRREPS = o3.Irreps("64x0e+32x1o+16x2e+8x3o+8x4e")
HARMONICS = o3.Irreps.spherical_harmonics(4)
BLOCK = o3.Irreps("5x0e+4x1o+1x1e+1x2e")  # of an s2p1 carbon pair
WIDTH = 64

# The networks that are measured: how a reader calls them, their model and its settings. All but the first are ours.
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "e3nn": ("e3nn tensor products", "", {}),
    "plain": ("ours, without TraceGrad", "deeph_e3_local", {"tracegrad": "none"}),
    "tracegrad": ("ours, with TraceGrad and traces", "deeph_e3_local", {"tracegrad": "tracegrad"}),
    "muon": ("the same, with Muon in place of AdamW", "deeph_e3_local", {"tracegrad": "tracegrad"}),
}


class Convolution(nn.Module):
    """Clebsch-Gordan form of `models.deeph_e3_local.Convolution`."""

    def __init__(self, irreps_in: o3.Irreps) -> None:
        super().__init__()
        scalars, rest = IRREPS[:1], IRREPS[1:]
        gates = o3.Irreps(f"{rest.num_irreps}x0e")
        self.gate = enn.Gate(scalars, [torch.nn.functional.silu], gates, [torch.sigmoid], rest)
        self.first = o3.FullyConnectedTensorProduct(irreps_in, HARMONICS, self.gate.irreps_in)
        self.scale = nn.Linear(WIDTH, IRREPS.num_irreps)
        self.multiply = o3.ElementwiseTensorProduct(IRREPS, o3.Irreps(f"{IRREPS.num_irreps}x0e"))
        self.second = o3.FullyConnectedTensorProduct(IRREPS, HARMONICS, IRREPS)

    def forward(self, x: Tensor, y: Tensor, radial: Tensor) -> Tensor:
        """Features [n, dim], harmonics [n, 25], radial features [n, width] -> features [n, dim]."""
        return self.second(self.multiply(self.gate(self.first(x, y)), self.scale(radial)), y)


class ClebschGordan(nn.Module):
    """Our network without TraceGrad, in the global frame, with e3nn's modules."""

    def __init__(self) -> None:
        super().__init__()
        three = IRREPS + IRREPS + IRREPS
        self.radial = RadialNetwork(1, 64, WIDTH)
        self.embedding = nn.Embedding(1, 64)
        self.start = o3.FullyConnectedTensorProduct(o3.Irreps(f"{WIDTH}x0e"), HARMONICS, IRREPS)
        self.messages = nn.ModuleList(Convolution(three) for _ in range(3))
        self.edges = nn.ModuleList(Convolution(three) for _ in range(3))
        self.mix = nn.ModuleList(o3.Linear(IRREPS, IRREPS) for _ in range(6))
        self.norms = nn.ModuleList(enn.BatchNorm(IRREPS, instance=False, affine=True) for _ in range(6))
        self.onsite = o3.Linear(IRREPS, BLOCK)
        self.offsite = o3.FullyConnectedTensorProduct(IRREPS, HARMONICS, BLOCK)

    def forward(self, batch: Batch, y: Tensor) -> tuple[Tensor, Tensor]:
        """Irreps of on-site and off-site blocks."""
        i, j = batch.source, batch.target
        radial = self.radial(batch.ratio, batch.element[i], batch.element[j])
        e = self.start(radial, y)
        v = nn.functional.pad(self.embedding(batch.element), (0, IRREPS.dim - 64))
        for k in range(3):
            m = self.messages[k](torch.cat([v[i], v[j], e], 1), y, radial) * batch.fade[:, None]
            gathered = torch.zeros_like(v).index_add_(0, i, m) / 40**0.5
            v = v + self.norms[k](self.mix[k](gathered) + self.mix[k + 3](v))
            e = e + self.norms[k + 3](self.edges[k](torch.cat([v[i], v[j], e], 1), y, radial))
        return self.onsite(v), self.offsite(e, y)


@dataclass(frozen=True)
class Job:
    """What one process measures."""

    network: str
    device: str
    threads: int
    repeat: int
    batch: int
    matmul: str
    compile: bool
    cuda_graphs: bool


def sample(batch: int, device: str) -> tuple[Batch, Tensor, Assembly, Any]:
    """The graph some times over, its harmonics, what assembles blocks, and the basis."""
    calculation = readers.read(EXAMPLE)
    labeller = fit_labeller(lambda: iter([calculation]), 4, "benchmark")
    made = labeller.sample(calculation.structure, calculation.overlap, calculation.hamiltonian)
    vectors = calculation.structure.pair_vectors(calculation.overlap.pairs[~calculation.overlap.onsite])
    y = o3.spherical_harmonics(HARMONICS, torch.as_tensor(vectors[:, [1, 2, 0]], dtype=torch.float32), normalize=True)
    together = collate([made] * batch).to(device)
    return together, y.repeat(batch, 1).to(device), Assembly(labeller.basis).to(device), labeller.basis


def step_of(job: Job) -> tuple[Callable[[], None], int]:
    """A function that does one training step, and the number of pairs in it."""
    torch.manual_seed(0)
    batch, y, assembly, basis = sample(job.batch, job.device)
    _, model, settings = NETWORKS[job.network]
    ours = bool(model)
    network: nn.Module = (models.build(model, settings, basis) if ours else ClebschGordan()).to(job.device).train()
    how = TrainSection(matmul=job.matmul, compile=job.compile, cuda_graphs=job.cuda_graphs)  # type: ignore[arg-type]
    if ours:
        numerics.prepare(network, how)
    optimiser = make_optimizer("muon" if job.network == "muon" else "adamw", network, 1e-3, 0.0)

    def step() -> None:
        if job.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        optimiser.zero_grad()
        if ours:
            output = network(batch)
            irreps, traces = output.irreps, output.traces
        else:
            irreps, traces = list(network(batch, y)), []
        loss = (assembly(batch, irreps) - batch.residual).abs().mean() + sum(t.abs().mean() for t in traces)
        loss.backward()
        optimiser.step()

    return step, len(batch.source) + batch.n_atoms


# --- measuring --------------------------------------------------------------------------------------------------------------


def clock(job: Job) -> Callable[[Callable[[], object]], float]:
    """A function that takes the seconds of another: on one CPU thread those of the processor, which no other job lengthens."""

    def on_gpu(work: Callable[[], object]) -> float:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1000

    def on_cpu(work: Callable[[], object]) -> float:
        now = time.process_time if job.threads == 1 else time.perf_counter
        start = now()
        work()
        return now() - start

    return on_gpu if job.device == "cuda" else on_cpu


class Traffic(TorchDispatchMode):
    """Bytes that operations read and write, and how many operations there are; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operations += 1
            flat, _ = torch.utils._pytree.tree_flatten((args, kwargs, result))
            self.bytes += sum(x.numel() * x.element_size() for x in flat if isinstance(x, Tensor))
        return result


def limits(seconds: Callable[[Callable[[], object]], float], device: str) -> dict[str, float]:
    """What this device does at best: operations per second, bytes per second, seconds per launch."""
    a, b = (torch.randn(1024, 1024, device=device) for _ in range(2))
    long, other = (torch.randn(2**25, device=device) for _ in range(2))
    few = torch.randn(4, device=device)
    best = {
        "product": lambda: a @ b,
        "copy": lambda: long.copy_(other),
        "launch": lambda: [few.add_(1.0) for _ in range(1000)],
    }
    times = {name: min(seconds(work) for _ in range(5)) for name, work in best.items()}
    return {
        "flop_per_s": 2 * 1024**3 / times["product"],
        "bytes_per_s": 2 * 4 * 2**25 / times["copy"],
        "s_per_launch": times["launch"] / 1000,
    }


def in_kernels(step: Callable[[], None], repeat: int) -> float:
    """Part of the time of some steps in which the GPU computes."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as record:
        for _ in range(repeat):
            step()
        torch.cuda.synchronize()
    busy = sum(event.self_device_time_total for event in record.key_averages()) / 1e6
    return busy / (time.perf_counter() - start)


def measure(job: Job) -> dict[str, float]:
    """Median seconds per step, memory, operations and limits of one network, in a process that does nothing else."""
    torch.set_num_threads(job.threads)
    gpu = job.device == "cuda"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step, pairs = step_of(job)
    for _ in range(10 if gpu else 2):
        step()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = clock(job)
    times = [seconds(step) for _ in range(job.repeat)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"seconds": statistics.median(times), "pairs": pairs, "whole": peak / 1e6, "above": (peak - before) / 1e6}
    if gpu:
        found["above"] = found["whole"] = torch.cuda.max_memory_allocated() / 1e9
        found["kernels"] = in_kernels(step, job.repeat)
    with counted(job) as counts:
        step()
    return {**found, **counts, **limits(seconds, job.device)}


@contextmanager
def counted(job: Job) -> Iterator[dict[str, float]]:
    """Floating-point operations, bytes and launches of what is done inside, but for compiled code, which shows none."""
    counts: dict[str, float] = {}
    if job.compile and NETWORKS[job.network][1]:
        yield counts
        return
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        yield counts
    counts.update(flops=flops.get_total_flops(), bytes=traffic.bytes, operations=traffic.operations)


# --- tables -----------------------------------------------------------------------------------------------------------------


def show(found: dict[str, dict[str, float]], options: argparse.Namespace, console: Console) -> None:
    """Both tables, and what TraceGrad costs."""
    speed = Table(
        "network", "s per step", "steps/s", "pairs/s", "times faster", "GB", "GB above start", "of e3nn", "in kernels"
    )
    for which, f in found.items():
        ratio = found["e3nn"]["seconds"] / f["seconds"] if "e3nn" in found else float("nan")
        memory = f["above"] / found["e3nn"]["above"] if "e3nn" in found else float("nan")
        speed.add_row(
            NETWORKS[which][0], f"{f['seconds']:.4f}", f"{1 / f['seconds']:.2f}", f"{f['pairs'] / f['seconds']:.0f}",
            f"{ratio:.1f}", f"{f['whole']:.2f}", f"{f['above']:.2f}", f"{memory:.0%}",
            f"{f['kernels']:.0%}" if "kernels" in f else "",
        )  # fmt: skip
    work = Table(
        "network", "GFLOP", "GFLOP/s", "GB moved", "GB/s", "operations", "s at least, for FLOP", "for GB", "for launches"
    )
    for which, f in found.items():
        if "flops" in f:
            work.add_row(
                NETWORKS[which][0], f"{f['flops'] / 1e9:.2f}", f"{f['flops'] / f['seconds'] / 1e9:.1f}",
                f"{f['bytes'] / 1e9:.2f}", f"{f['bytes'] / f['seconds'] / 1e9:.1f}", f"{f['operations']:.0f}",
                f"{f['flops'] / f['flop_per_s']:.4f}", f"{f['bytes'] / f['bytes_per_s']:.4f}",
                f"{f['operations'] * f['s_per_launch']:.4f}",
            )  # fmt: skip
    f = next(iter(found.values()))
    how = f"{options.threads} thread(s)" if options.device == "cpu" else torch.cuda.get_device_name()
    console.print(
        f"{f['pairs']:.0f} pairs of carbon atoms, {how}, median of {options.repeat} steps, matmul {options.matmul}, "
        f"compile {options.compile}, CUDA graphs {options.cuda_graphs}",
        speed,
        f"At best here: {f['flop_per_s'] / 1e9:.0f} GFLOP/s, {f['bytes_per_s'] / 1e9:.1f} GB/s, "
        f"{f['s_per_launch'] * 1e6:.1f} µs per operation",
        work,
    )
    if {"plain", "tracegrad"} <= found.keys():
        extra = found["tracegrad"]["seconds"] / found["plain"]["seconds"] - 1
        console.print(f"TraceGrad adds {extra:.0%} of time")


def main() -> None:
    """Measure the networks one after the other, each in a process of its own, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1, help="copies of the graph")
    parser.add_argument("--matmul", choices=["float32", "tf32", "bf16"], default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--cuda-graphs", action="store_true")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--only", choices=list(NETWORKS), help=argparse.SUPPRESS)  # what each process is told
    options = parser.parse_args()
    if options.only:
        chosen = {key: value for key, value in vars(options).items() if key not in ("only", "networks")}
        print(json.dumps(measure(Job(network=options.only, **chosen))))
        return
    found = {}
    for which in options.networks:
        words = [sys.executable, __file__, *sys.argv[1:], "--only", which]
        found[which] = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
    show(found, options, Console(width=None if sys.stdout.isatty() else 160))


if __name__ == "__main__":
    main()
