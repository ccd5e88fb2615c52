"""What is accepted of strangers; light, for the command line reads it before anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from r1omni.options import SECONDS, Ranges, above, at_least, check_options

MB = 10**6


@dataclass(frozen=True)
class UploadLimits:
    """What is accepted of strangers.

    Attributes:
        max_upload_mb: largest file in megabytes of 10^6 bytes.
        max_seconds: longest recording in seconds, as far as its packets reach.
        max_pixels: largest frame, width times height.
        probe_limit_s: seconds that finding these out may take.

    Raises:
        UsageError: a number out of its range.
    """

    max_upload_mb: float = 200.0
    max_seconds: float = 600.0
    max_pixels: int = 3840 * 2160
    probe_limit_s: float = 30.0

    RANGES: ClassVar[Ranges] = {
        "max_upload_mb": above(0, 1e6),
        "max_seconds": SECONDS,
        "max_pixels": at_least(1),
        "probe_limit_s": SECONDS,
    }

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def max_bytes(self) -> int:
        """Largest file in bytes."""
        return int(self.max_upload_mb * MB)
