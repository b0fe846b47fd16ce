"""harness: runs published pretrained 3D medical-imaging models and tells whether their gain is real."""

__version__ = "0.1.0"
