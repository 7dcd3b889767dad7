"""Methods by which a generation learns from its parent: one short file per paper."""

from evergallery.methods.advbct import AdvBCT
from evergallery.methods.bct import BCT
from evergallery.methods.cl2r import CL2R
from evergallery.methods.cores import CoReS
from evergallery.methods.csd import CSD
from evergallery.methods.dual_tuning import DualTuning
from evergallery.methods.evergreen import Evergreen
from evergallery.methods.feature_distillation import FeatureDistillation
from evergallery.methods.finetune import Finetune
from evergallery.methods.joint import Joint
from evergallery.methods.l2 import L2
from evergallery.methods.lce import LCE
from evergallery.methods.lwf import LwF
from evergallery.methods.method import NO_TRIPLETS, Beginning, Method, Role, Step, Task
from evergallery.methods.mmd import MMD
from evergallery.methods.mutual import Mutual
from evergallery.methods.needs import Needs
from evergallery.methods.new_to_old import RACT, NewToOldContrastive, NewToOldTriplet
from evergallery.methods.relation import RelationDistillation
from evergallery.methods.replay import Replay
from evergallery.methods.unibct import UniBCT

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        # The papers at the centre, and the ends of the scale.
        Finetune, Joint, CSD, Mutual, DualTuning,
        # What they have and lack, together.
        Evergreen,
        # Against forgetting.
        LwF, FeatureDistillation, RelationDistillation, MMD, Replay,
        # For compatibility.
        BCT, L2, NewToOldContrastive, NewToOldTriplet, RACT, LCE, UniBCT, AdvBCT, CoReS, CL2R,
    )
}  # fmt: skip
"""Every method by the name that the command line and the cards use."""

__all__ = [
    "BCT",
    "CL2R",
    "CSD",
    "L2",
    "LCE",
    "METHODS",
    "MMD",
    "NO_TRIPLETS",
    "RACT",
    "AdvBCT",
    "Beginning",
    "CoReS",
    "DualTuning",
    "Evergreen",
    "FeatureDistillation",
    "Finetune",
    "Joint",
    "LwF",
    "Method",
    "Mutual",
    "Needs",
    "NewToOldContrastive",
    "NewToOldTriplet",
    "RelationDistillation",
    "Replay",
    "Role",
    "Step",
    "Task",
    "UniBCT",
]
