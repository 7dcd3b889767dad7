"""From images and a parent to a new generation."""

from evergallery.learning.lessons import in_two_classes, left_out, training_part
from evergallery.learning.run import learn, tidy_up
from evergallery.learning.start import changed_architecture, check_images, check_space, decide_start, said_train

__all__ = [
    "changed_architecture",
    "check_images",
    "check_space",
    "decide_start",
    "in_two_classes",
    "learn",
    "left_out",
    "said_train",
    "tidy_up",
    "training_part",
]
