"""The pretext recipes, as tasks that the shared training loop trains: batches, a loss, an honest evaluation, a file.

A task (`task.PretextTask`) draws its batches as a pure function of (seed, step) from prepared volumes, and writes what
was trained in the layout in which the authors published theirs, with a model card beside it.
"""
