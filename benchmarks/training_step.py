"""Seconds and memory of a training step: ours in the frames of the edges, beside the same network of e3nn's tensor products.

    python benchmarks/training_step.py [--threads 1] [--repeat 7]

Both have DeepH-E3's default size (64x0e+32x1o+16x2e+8x3o+8x4e, 3 updates, harmonics up to l = 4) and take the same graph, a
bilayer of 16 carbon atoms from the embedded example. A step is forward, backward and optimiser. The e3nn network is the
Clebsch-Gordan form of ours: the same convolutions (product with the harmonics, function of length, gate, second product),
norms and read-outs.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from e3nn import nn as enn
from e3nn import o3
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from orbitrace import readers
from orbitrace.graphs.assembly import Assembly
from orbitrace.graphs.batches import Batch, collate
from orbitrace.graphs.labels import fit_labeller
from orbitrace.models.deeph_e3_local import Network, Settings
from orbitrace.nets.radial import RadialNetwork

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "bilayer_graphene" / "data" / "bilayers" / "000"
IRREPS = o3.Irreps("64x0e+32x1o+16x2e+8x3o+8x4e")
HARMONICS = o3.Irreps.spherical_harmonics(4)
BLOCK = o3.Irreps("5x0e+4x1o+1x1e+1x2e")  # of an s2p1 carbon pair
WIDTH = 64


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


def sample() -> tuple[Batch, Tensor, Assembly, object]:
    """The graph, its harmonics, and what assembles blocks."""
    calculation = readers.read(EXAMPLE)
    labeller = fit_labeller(lambda: iter([calculation]), 4, "benchmark")
    made = labeller.sample(calculation.structure, calculation.overlap, calculation.hamiltonian)
    vectors = calculation.structure.pair_vectors(calculation.overlap.pairs[~calculation.overlap.onsite])
    y = o3.spherical_harmonics(HARMONICS, torch.as_tensor(vectors[:, [1, 2, 0]], dtype=torch.float32), normalize=True)
    return collate([made]), y, Assembly(labeller.basis), labeller.basis


def step_of(which: str) -> object:
    """A function that does one training step."""
    torch.manual_seed(0)
    batch, y, assembly, basis = sample()
    if which == "e3nn":
        network: nn.Module = ClebschGordan()
    else:
        network = Network(Settings(tracegrad="tracegrad" if which == "tracegrad" else "none"), basis)
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)

    def step() -> None:
        optimiser.zero_grad()
        if which == "e3nn":
            irreps: list[Tensor] = list(network(batch, y))
            loss = (assembly(batch, irreps) - batch.residual).abs().mean()
        else:
            output = network(batch)
            loss = (assembly(batch, output.irreps) - batch.residual).abs().mean()
            loss = loss + sum(t.abs().mean() for t in output.traces)
        loss.backward()
        optimiser.step()

    return step


def measure(which: str, threads: int, repeat: int) -> None:
    """Print median seconds per step and peak memory in GB of a process that does nothing else."""
    torch.set_num_threads(threads)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = step_of(which)
    for _ in range(2):
        step()  # type: ignore[operator]
    times = []
    for _ in range(repeat):
        start = time.process_time() if threads == 1 else time.perf_counter()
        step()  # type: ignore[operator]
        times.append((time.process_time() if threads == 1 else time.perf_counter()) - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(statistics.median(times), peak / 1e6, (peak - before) / 1e6)


def main() -> None:
    """Measure the three networks one after the other, each in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--only", choices=["e3nn", "so2", "tracegrad"])
    options = parser.parse_args()
    if options.only:
        measure(options.only, options.threads, options.repeat)
        return
    found = {}
    for which in ("e3nn", "so2", "tracegrad"):
        words = [sys.executable, __file__, "--only", which, "--threads", str(options.threads), "--repeat", str(options.repeat)]
        line = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
        found[which] = [float(word) for word in line]
    table = Table("network", "s per step", "times faster", "GB, whole process", "GB, above start")
    names = {"e3nn": "e3nn tensor products", "so2": "ours, without TraceGrad", "tracegrad": "ours, with TraceGrad and traces"}
    for which, (seconds, peak, above) in found.items():
        table.add_row(names[which], f"{seconds:.3f}", f"{found['e3nn'][0] / seconds:.1f}", f"{peak:.2f}", f"{above:.2f}")
    Console().print(f"16 carbon atoms, about 880 pairs, {options.threads} thread(s), median of {options.repeat} steps", table)


if __name__ == "__main__":
    main()
