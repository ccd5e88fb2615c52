"""The mini-world: rendered clips with known emotions, in the publishers' own layouts.

`synthesize.synthesize` makes one; `story` holds the tables that it is drawn from and `ceiling`
the best accuracy that anything can reach on it.
"""
