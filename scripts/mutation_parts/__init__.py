"""What `scripts/mutation_score.py` is made of: the mutants, and the tests that judge them."""
