"""What `scripts/benchmark_step.py` is made of: the step that is asked for, its arms, its counts."""
