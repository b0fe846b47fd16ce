"""Made-up volumes in the official layouts of public data sets. No code is shared with reading or the validator."""
