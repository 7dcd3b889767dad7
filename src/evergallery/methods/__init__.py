"""How a generation learns from its parent: one short file per paper."""

from evergallery.methods.csd import CSD
from evergallery.methods.dual_tuning import DualTuning
from evergallery.methods.finetune import Finetune
from evergallery.methods.joint import Joint
from evergallery.methods.method import Beginning, Method, Step, Task
from evergallery.methods.mutual import Mutual

METHODS: dict[str, type[Method]] = {method.name: method for method in (Finetune, Joint, CSD, Mutual, DualTuning)}
"""Every method by the name that the command line and the cards use."""

__all__ = [
    "CSD",
    "METHODS",
    "Beginning",
    "DualTuning",
    "Finetune",
    "Joint",
    "Method",
    "Mutual",
    "Step",
    "Task",
]
