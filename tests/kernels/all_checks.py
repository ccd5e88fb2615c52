"""Every check of the Triton kernels, by name."""

from __future__ import annotations

import decoding_checks  # noqa: F401 - adds its checks
import linear_checks  # noqa: F401
import loss_checks  # noqa: F401
import selective_checks  # noqa: F401
from kernel_checks import CHECKS

__all__ = ["CHECKS"]
