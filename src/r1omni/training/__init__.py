"""LightningModules, callbacks and tracking: the only part that knows Trainer and MLflow."""

from r1omni.training.grpo import GRPOModule
from r1omni.training.grpo_config import GRPOConfig
from r1omni.training.optimization import OptimizerConfig
from r1omni.training.sft import SFTModule
from r1omni.training.sharded import FSDP2Strategy

__all__ = ["FSDP2Strategy", "GRPOConfig", "GRPOModule", "OptimizerConfig", "SFTModule"]
