"""From a file on disk to frames and log-mel spectrograms."""
