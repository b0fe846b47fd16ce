"""What a sweep would do, before it does it: downloads, disk, steps, operations, memory. Runs nothing, needs no data."""

from harness.footprint import Footprint, footprint
from harness.plan.planning import Plan, plan
from harness.plan.pretext import plan_pretraining

__all__ = ["Footprint", "Plan", "footprint", "plan", "plan_pretraining"]
