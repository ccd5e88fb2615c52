"""The shared multimodal model: architecture, sampling, model folders."""

from r1omni.models.config import OmniConfig
from r1omni.models.omni import OmniModel
from r1omni.models.pipeline import R1Omni

__all__ = ["OmniConfig", "OmniModel", "R1Omni"]
