"""Data: reading volumes, layouts, checks, fingerprints, splits, preprocessing, patches, synthetic volumes."""
