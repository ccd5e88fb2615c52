"""Kernels that are tested and that nothing calls, each with the measurement that would decide it.

`triton_linear`: log-probabilities from hidden states in one kernel, logits never held. On an H100
at 4,096 tokens, a vocabulary of 151,936 and D = 896 it takes 2.18 ms and 2 MiB, where chunks of the
library's product take 2.05 ms and 594 MiB (docs/benchmarks/gpu/). It would be called where it is
faster, or where 600 MiB decide whether a run fits.
"""
