"""Checkpoints: found, verified, read safely, matched to a network, and reported tensor by tensor.

`reading` opens a file without executing it, `matching` copies a translation into a network and says what became
of every tensor, `hashing` gives the identity of live parameters.
"""
