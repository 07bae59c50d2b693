"""How products are computed changes speed and rounding, and nothing else."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from learner_cases import calculation, network, structure
from orbitrace.errors import InputError
from orbitrace.graphs.batches import Batch, collate
from orbitrace.graphs.labels import Labeller, fit_labeller
from orbitrace.learning import TrainSection
from orbitrace.schema import section_from
from orbitrace.training import numerics
from orbitrace.training.callbacks import Digits

SIZES = (2, 3, 5, 8, 9, 10)  # atoms


@cache
def labeller() -> Labeller:
    return fit_labeller(lambda: (calculation(structure(k, k, elements=(6,)), k) for k in SIZES), 2, "tests")


def batch(dtype: torch.dtype, *sizes: int) -> Batch:
    several = [calculation(structure(k, k, elements=(6,)), k) for k in sizes]
    return collate([labeller().sample(c.structure, c.overlap, c.hamiltonian) for c in several], dtype)


def small(dtype: torch.dtype) -> nn.Module:
    net = network(basis=labeller().basis, blocks=1, irreps="4x0e+2x1o+2x2e").to(dtype).train()
    for module in net.modules():
        module.training = True
    return net


def gradients(net: nn.Module, of: Batch) -> tuple[Tensor, list[Tensor]]:
    """A loss, and its gradient by every parameter."""
    net.zero_grad()
    output = net(of)
    loss = sum((x**2).mean() for x in [*output.irreps, *output.traces])
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in net.parameters() if p.grad is not None]


def assert_alike(left: tuple[Tensor, list[Tensor]], right: tuple[Tensor, list[Tensor]], tolerance: float) -> None:
    torch.testing.assert_close(left[0], right[0], rtol=tolerance, atol=0)
    whole = [torch.cat([g.reshape(-1) for g in side[1]]) for side in (left, right)]
    assert float((whole[0] - whole[1]).norm() / whole[1].norm()) < tolerance


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's own modules
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
def test_compiled_code_is_the_network_for_batches_of_all_sizes_without_compiling_again(
    precision: str, tolerance: float
) -> None:
    dtype = getattr(torch, precision)
    plain = small(dtype)
    compiled = deepcopy(plain)
    numerics.prepare(compiled, TrainSection(compile=True, precision=precision))
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    # Inductor makes code of its own for products of less than 32 elements, which batches of single atoms would have.
    for k, sizes in enumerate([(9,), (8, 10), (10,), (8, 9, 10)]):
        of = batch(dtype, *sizes)
        # Sizes 0 and 1 are special to the compiler; it may need a second look, but no third.
        with torch.compiler.set_stance("fail_on_recompile" if k > 1 else "default"):
            assert_alike(gradients(compiled, of), gradients(plain, of), tolerance)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's own modules
def test_a_missing_compiler_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    net = small(torch.float32)
    numerics.prepare(net, TrainSection(compile=True))
    sentence = r"train\.compile: true: .*C\+\+ compiler such as g\+\+.*compile: false"
    with pytest.raises(InputError, match=sentence), numerics.explained():
        gradients(net, batch(torch.float32, 3))


def test_products_in_bfloat16_change_the_gradient_by_a_few_thousandths_and_what_is_validated_not_at_all() -> None:
    plain = small(torch.float32)
    reduced = deepcopy(plain)
    numerics.prepare(reduced, TrainSection(matmul="bf16"))
    of = batch(torch.float32, 2, 3, 5)
    exact, rounded = gradients(plain, of), gradients(reduced, of)
    assert not torch.equal(exact[0], rounded[0])
    assert_alike(rounded, exact, 0.02)
    assert all(g.dtype == torch.float32 for g in rounded[1])
    with torch.no_grad():
        for left, right in zip(reduced.eval()(of).irreps, plain.eval()(of).irreps, strict=True):
            assert torch.equal(left, right)


def test_only_linear_maps_between_features_see_fewer_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotations into the frames of edges, norms and invariants have operands in full precision."""
    net = small(torch.float32)
    seen: dict[str, set[bool]] = {}

    def note(module: nn.Module, inputs: object, output: object) -> None:
        seen.setdefault(type(module).__name__, set()).add(torch.is_autocast_enabled("cpu"))

    for module in net.modules():
        if not isinstance(module, numerics.LINEAR_MAPS):
            module.register_forward_hook(note)
    numerics.prepare(net, TrainSection(matmul="bf16"))
    gradients(net, batch(torch.float32, 3))
    assert set.union(*seen.values()) == {False}
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_tf32_is_switched_on_for_linear_maps_and_gradients_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    net = small(torch.float32)
    used = []
    for module in net.modules():
        if isinstance(module, numerics.LINEAR_MAPS):
            own = module.forward
            monkeypatch.setattr(module, "forward", lambda *x, own=own: (used.append(precision()), own(*x))[1])
    precision = torch.get_float32_matmul_precision
    settings = TrainSection(matmul="tf32")
    numerics.prepare(net, settings)
    loss, _ = gradients(net, batch(torch.float32, 3))
    assert set(used) == {"high"}
    assert precision() == "highest"
    callback = Digits(settings)
    callback.on_before_backward(None, None, loss)
    assert precision() == "high"
    callback.on_after_backward(None, None)
    assert precision() == "highest"


@pytest.mark.parametrize(
    "wrong",
    [{"precision": "float64", "matmul": "bf16"}, {"compile": True, "matmul": "tf32"}, {"cuda_graphs": True}],
    ids=["digits", "switch", "graphs"],
)
def test_settings_that_do_not_go_together_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="with"):
        section_from(TrainSection, wrong, "train")
