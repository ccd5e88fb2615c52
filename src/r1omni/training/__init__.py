"""LightningModules, callbacks and tracking: the only part that knows Trainer and MLflow."""

from r1omni.training.grpo import GRPOModule
from r1omni.training.grpo_config import GRPOConfig
from r1omni.training.optimization import OptimizerConfig
from r1omni.training.sft import SFTModule

__all__ = ["GRPOConfig", "GRPOModule", "OptimizerConfig", "SFTModule"]
