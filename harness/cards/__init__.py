"""Cards: facts about weight sets, data sets and claims, as data. Typed, immutable once read, unknown keys refused.

`harness.cards.library` finds and reads them; `model`, `dataset` and `claim` say what a card may state.
Importing this package is cheap; the typed classes (pydantic) load when the first card is validated.
"""
