"""Sampling completions: an own decoding step over keys that are kept in place.

`engine` is the way of a call, `prompts` what it goes on from, `grid` the state of its completions,
`writer` its steps and a batch written to its end, `beside` such a batch written by a thread,
`continuous` a stream in which prompts follow each other, `layers` one token through the language
model, `weights` what of the model is read, `graphs` its recording on a GPU.
"""

from r1omni.models.sampler.beside import WritingBeside
from r1omni.models.sampler.continuous import Ended, Hear, NextPrompts
from r1omni.models.sampler.engine import begun, generate, generate_each, generate_stream
from r1omni.models.sampler.prompts import ReadPrompts, read_prompts
from r1omni.models.sampler.settings import Sampled, Sampling, mask_after_end
from r1omni.models.sampler.writer import SamplerMemory

__all__ = [
    "Ended", "Hear", "NextPrompts", "ReadPrompts", "Sampled", "SamplerMemory", "Sampling",
    "WritingBeside", "begun", "generate", "generate_each", "generate_stream", "mask_after_end",
    "read_prompts",
]  # fmt: skip
