"""`python -m r1omni doctor`: is this machine fit, is that model whole, are those data complete?

Every check imports what it needs when it runs: a package that does not import is a finding, not
the end of the other checks.
"""
