"""Training: one thin loop in plain torch, with exact resume. Whatever can give batches and a loss can be trained.

`loop` reads aloud; `settings` says what can be chosen; `state` writes and reads checkpoints; `objective` holds the
losses, `optim` the optimisers and schedules, `device` everything that depends on where the tensors live.
"""
