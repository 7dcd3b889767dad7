"""How a generation learns from its parent: one short file per paper."""

from evergallery.methods.csd import CSD
from evergallery.methods.finetune import Finetune
from evergallery.methods.joint import Joint
from evergallery.methods.method import Beginning, Method, Step, Task

METHODS: dict[str, type[Method]] = {method.name: method for method in (Finetune, Joint, CSD)}
"""Every method by the name that the command line and the cards use."""

__all__ = ["CSD", "METHODS", "Beginning", "Finetune", "Joint", "Method", "Step", "Task"]
