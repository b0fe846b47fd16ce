"""From a trained network and a prepared volume to labels on the scan's own grid."""
