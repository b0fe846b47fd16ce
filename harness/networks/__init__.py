"""Architectures that MONAI does not have, or not with the published key names and numerics."""
