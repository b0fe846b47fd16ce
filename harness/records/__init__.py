"""Records: what a run leaves behind that anyone can check. Schema, case files, store, verification, comparison.

`schema` says what a record holds, `build` makes one, `store` keeps it, `verify` checks it, `comparison` puts it beside
a claim. Nothing here imports torch.
"""
