"""Sampling under its older name; see `r1omni.models.sampler`."""

from r1omni.models.sampler import Sampled, Sampling, generate, mask_after_end

__all__ = ["Sampled", "Sampling", "generate", "mask_after_end"]
