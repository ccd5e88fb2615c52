"""Sharding on one process; `tests/training/test_ranks.py` and `test_sharded.py` have several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp._fully_shard import _fsdp_init, _fully_shard
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from r1omni.models import OmniModel, R1Omni
from r1omni.models.activations import checkpoint_activations
from r1omni.models.omni import FORWARD_METHODS
from r1omni.models.packed import pad_embeds
from r1omni.models.parallelize import (
    ShardingConfig,
    full_tensor,
    gathered,
    own_shard,
    parallelize,
)
from r1omni.ops import GRPOLossConfig, TokenObjective
from r1omni.text.prompt import VIDEO_PLACEHOLDER
from r1omni.training import FSDP2Strategy
from r1omni.training.reference import frozen_copy
from r1omni.types import ClipMedia, PromptInputs, UsageError


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'ranks'}", rank=0, world_size=1
    )
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


@pytest.fixture
def model(fixtures_dir: Path) -> OmniModel:
    folder = fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny"
    made = R1Omni.from_pretrained(folder).model
    for tower in (made.vision_tower, made.audio_tower, made.text_tower):
        tower.requires_grad_(False)
    return made


def _prompt(model: OmniModel) -> torch.Tensor:
    width = model.config.language.hidden_size
    return torch.randn(12, width, generator=torch.Generator().manual_seed(0))


def _hidden(model: OmniModel) -> torch.Tensor:
    return model.hidden_states(pad_embeds([_prompt(model)]))


def test_frozen_towers_are_whole_unless_asked(model: OmniModel, mesh: DeviceMesh) -> None:
    parallelize(model, mesh, ShardingConfig())
    sharded = {n for n, p in model.named_parameters() if isinstance(p, DTensor)}
    towers = {n for n, _ in model.named_parameters() if n.split(".")[0].endswith("_tower")}
    assert towers and not sharded & towers
    assert sharded == {n for n, _ in model.named_parameters()} - towers


def test_everything_can_be_sharded(model: OmniModel, mesh: DeviceMesh) -> None:
    parallelize(model, mesh, ShardingConfig(shard_frozen_towers=True))
    assert all(isinstance(p, DTensor) for p in model.parameters())


def test_weights_are_whole_within_gathered_alone(model: OmniModel, mesh: DeviceMesh) -> None:
    weight = model.lm_head.weight.detach().clone()
    parallelize(model, mesh, ShardingConfig())
    assert isinstance(model.lm_head.weight, DTensor)
    with gathered(model):
        assert not isinstance(model.lm_head.weight, DTensor)
        assert torch.equal(model.lm_head.weight, weight)
    assert isinstance(model.lm_head.weight, DTensor)
    assert torch.equal(full_tensor(model.lm_head.weight), weight)
    assert torch.equal(own_shard(model.lm_head.weight), weight)  # there is one rank


def test_layers_compute_again_in_the_backward_pass(model: OmniModel, mesh: DeviceMesh) -> None:
    calls: list[int] = []
    norm = model.language_model.layers[0].input_layernorm
    norm.register_forward_hook(lambda *_: calls.append(1))
    wanted = _hidden(model)
    wanted.sum().backward()
    kept = norm.weight.grad
    assert len(calls) == 1 and kept is not None
    norm.weight.grad = None
    checkpoint_activations(model)
    parallelize(model, mesh, ShardingConfig())
    found = _hidden(model)
    assert torch.equal(found, wanted) and len(calls) == 2
    found.sum().backward()
    assert len(calls) == 3  # once more
    assert norm.weight.grad is not None
    torch.testing.assert_close(full_tensor(norm.weight.grad), kept)
    with torch.no_grad():
        _hidden(model)
    assert len(calls) == 4


def test_what_a_batch_does_not_use_has_a_gradient_of_zero(
    model: OmniModel, mesh: DeviceMesh
) -> None:
    parallelize(model, mesh, ShardingConfig())
    ids = torch.tensor([[3, 4], [5, 6]])
    read = ([_prompt(model)], ids, torch.ones_like(ids).bool())
    unused = [*model.video_projector.parameters(), *model.audio_projector.parameters()]
    assert unused
    heads = []
    for door, more in (("completion_logps", ()), ("completion_loss", (_objective(ids),))):
        model.zero_grad()
        getattr(model, door)(*read, *more)[0].sum().backward()
        for parameter in unused:
            assert parameter.grad is not None and not full_tensor(parameter.grad).any()
        head = model.lm_head.weight.grad
        assert head is not None
        heads.append(full_tensor(head).clone())
    # Advantages of 1, and ratios of 1: the loss has the gradient of minus the log-probabilities.
    torch.testing.assert_close(heads[1], -heads[0])


def test_layers_compute_in_bfloat16_and_keep_float32(model: OmniModel, mesh: DeviceMesh) -> None:
    parallelize(model, mesh, ShardingConfig(param_dtype="bfloat16"))
    found = _hidden(model)
    assert found.dtype == torch.bfloat16
    found.float().sum().backward()
    layer = model.language_model.layers[0].mlp.gate_proj.weight
    assert layer.dtype == torch.float32 and layer.grad.dtype == torch.float32


def _objective(ids: torch.Tensor) -> TokenObjective:
    ones = torch.ones(ids.shape)
    return TokenObjective(ones, ones, None, None, GRPOLossConfig(beta=0.0))


def _asked(model: OmniModel) -> dict[str, Any]:
    """What every door of a model gives, by its name."""
    media = model.config.media
    shape = (media.num_frames, 3, media.image_size, media.image_size)
    clips = (ClipMedia(torch.zeros(shape, dtype=torch.uint8), None),)
    words = torch.arange(5)
    prompts = PromptInputs((torch.tensor([1, VIDEO_PLACEHOLDER, 2]),), (words,), clips)
    ids = torch.tensor([[3, 4], [5, 6]])
    arguments: dict[str, tuple[Any, ...]] = {
        "encode_media": (clips,),
        "embed_prompts": (prompts,),
        "hidden_states": (pad_embeds([_prompt(model)]),),
        "logits": (prompts,),
        "completion_logps": (prompts, ids, torch.ones_like(ids).bool()),
        "completion_loss": (prompts, ids, torch.ones_like(ids).bool(), _objective(ids)),
    }
    return {name: getattr(model, name)(*arguments[name]) for name in FORWARD_METHODS}


@torch.no_grad()
def test_every_door_of_a_sharded_model_gives_what_it_gave(
    model: OmniModel, mesh: DeviceMesh
) -> None:
    wanted = _asked(model)
    parallelize(model, mesh, ShardingConfig(shard_frozen_towers=True))
    for _ in range(2):  # the second time nothing is left gathered that should not be
        found = _asked(model)
        for name, value in wanted.items():
            assert str(found[name]) == str(value), name
    assert all(isinstance(p, DTensor) for p in model.language_model.layers.parameters())


def test_doors_are_the_public_methods_that_compute(model: OmniModel) -> None:
    public = {name for name in vars(OmniModel) if not name.startswith("_")}
    # These compute parts for the doors, or tell what the model is.
    inner = {"device", "dtype", "branch_weights", "media_tokens", "embed_tokens"}
    assert public - inner == set(FORWARD_METHODS)


def test_a_full_tensor_stays_as_it_is() -> None:
    plain = torch.ones(2)
    assert full_tensor(plain) is plain and own_shard(plain) is plain


def test_dtypes_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match=r"sharding\.reduce_dtype 'half' is unknown"):
        ShardingConfig(reduce_dtype="half")


# On a device that this machine does not have ---------------------------------------------------


@pytest.fixture
def gpu_mesh(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeviceMesh]:
    """Two ranks on GPUs without a GPU: for models of fake tensors, which have a device alone."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    # Before torch 2.11 a mesh chooses the GPU of its rank unless that is named.
    monkeypatch.setenv("LOCAL_RANK", "0")

    # `tensor.data = tensor.to(device)` and what modules do instead leave fake tensors in place.
    def move(params: list[Any], buffers: list[Any], device: torch.device) -> None:
        for tensor in (*params, *buffers):
            tensor.fake_device = device

    def swap(tensor: Any, there: torch.Tensor) -> None:
        tensor.fake_device = there.device

    # torch 2.10 looks it up in the first of these, 2.11 in the second.
    for module in (_fully_shard, _fsdp_init):
        monkeypatch.setattr(module, "_move_states_to_device", move, raising=False)
    monkeypatch.setattr(torch.utils, "swap_tensors", swap)
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        yield init_device_mesh("cuda", (2,))
    finally:  # a group that stays would be that of every later test
        dist.destroy_process_group()


@pytest.mark.parametrize("shard_towers", [False, True])
@pytest.mark.parametrize("trained", [[], ["vision_tower"], ["language_model", "lm_head"]])
def test_every_tensor_is_on_the_device_of_the_mesh(
    model: OmniModel, gpu_mesh: DeviceMesh, trained: list[str], shard_towers: bool
) -> None:
    """Also what no rank shares, such as whole towers and the buffers of all."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        there = OmniModel(model.config).requires_grad_(False)
        for part in trained:
            there.get_submodule(part).requires_grad_(True)
        parallelize(there, gpu_mesh, ShardingConfig(shard_frozen_towers=shard_towers))
    _check_devices(there)


@pytest.mark.parametrize(
    "sharding",
    [
        ShardingConfig(),
        ShardingConfig(shard_frozen_towers=True),
        ShardingConfig(param_dtype="bfloat16"),
        ShardingConfig(shard_reference=False),
    ],
)
@pytest.mark.parametrize("moves", [True, False])
def test_every_tensor_of_the_reference_is_there_too(
    model: OmniModel, gpu_mesh: DeviceMesh, sharding: ShardingConfig, moves: bool
) -> None:
    strategy = FSDP2Strategy(sharding)
    strategy._device_mesh = init_device_mesh(
        "cuda", (2, 1), mesh_dim_names=("data_parallel", "tensor_parallel")
    )
    with FakeTensorMode(allow_non_fake_inputs=True):
        policy = OmniModel(model.config).requires_grad_(False)
        policy.language_model.requires_grad_(True)
        parallelize(policy, strategy.mesh, sharding)
        reference = frozen_copy(policy, strategy, moves)
    _check_devices(reference)
    sharded = {isinstance(p, DTensor) for p in reference.language_model.parameters()}
    assert sharded == {sharding.shard_reference}


def _check_devices(there: OmniModel) -> None:
    tensors = [*there.named_parameters(remove_duplicate=False), *there.named_buffers()]
    elsewhere = [name for name, tensor in tensors if own_shard(tensor).device.type != "cuda"]
    assert len(tensors) > 50 and not elsewhere


def test_a_mesh_of_two_dimensions_is_refused(model: OmniModel, gpu_mesh: DeviceMesh) -> None:
    with pytest.raises(ValueError, match="2 dimensions"):
        parallelize(model, init_device_mesh("cuda", (2, 1)), ShardingConfig())
