"""Adapters: one file per model family. Each builds the network for a task and maps a published file onto it.

`interface` is what a family must provide, `registry` finds the families, `build` does both steps at once. To add
a model, write ``harness/adapters/<name>.py`` with an ``ADAPTER`` and a card in ``cards/``; nothing else.
"""
