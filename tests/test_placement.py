"""What jobs ask of a cluster: trainings by their settings, the others by the size of their inputs."""

import pytest

from orbitrace import placement
from orbitrace.learning import TrainSection


@pytest.mark.parametrize(
    ("settings", "resources"),
    [
        ({}, {"nodes": 1, "gpu": 1}),
        ({"accelerator": "cpu"}, {"nodes": 1}),
        ({"devices": 4, "accelerator": "gpu"}, {"nodes": 1, "gpu": 4}),
        ({"nodes": 2, "devices": 4}, {"nodes": 2, "tasks": 2, "mpi": "srun", "gres": "gpu:4", "tasks_per_gpu": 0}),
        ({"nodes": 3, "accelerator": "cpu"}, {"nodes": 3, "tasks": 3, "mpi": "srun"}),
    ],
)
def test_nodes_and_gpus_follow_from_the_settings(settings, resources):
    """On several nodes GPUs are counted on each, for one task of each starts the processes there."""
    assert placement.of(TrainSection(**settings)).resources == resources


def test_one_node_starts_the_training_itself_and_several_by_srun():
    assert placement.of(TrainSection()).starter == "exec"
    command = placement.of(TrainSection(nodes=2, devices=2)).starter
    assert command.startswith("exec srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=8")
    assert command.endswith("--gres=gpu:2")


def test_each_process_has_its_cores():
    assert placement.of(TrainSection(devices=8, threads=2, workers=2)).threads == 32


def test_sizes_of_files_and_folders_add_up_and_what_is_not_there_weighs_nothing(tmp_path):
    (tmp_path / "shard.zarr/c").mkdir(parents=True)
    (tmp_path / "shard.zarr/c/0").write_bytes(bytes(3_000_000))
    (tmp_path / "table").write_bytes(bytes(1_500_000))
    assert placement.megabytes([str(tmp_path / name) for name in ("shard.zarr", "table", "missing")]) == 5
