"""The images that a result was measured on, in words: what a digest stands for, and how the images were split."""

from collections.abc import Mapping
from typing import Any

RESHUFFLED_CIFAR100 = (
    "CIFAR-100 pooled and split again, 500 training and 100 test images of each class (not the published split: figures cannot "
    "be compared image by image with those of papers)"
)
GROCERY = (
    "Grocery Store photographs, shorter side 64 pixels, the published training and test parts (many are of one shelf in a row, "
    "so that a test image often finds the one beside it: compare rows of this table, not tables)"
)
OMNIGLOT = "Omniglot at 28 pixels, 30 % of each background character held out, the evaluation alphabets unseen"
KNOWN: Mapping[str, str] = {
    "a60223265912afc3cc3f83b0e15f93cc31c2c5e49ff068477b79328504d55d1a": "200 generated characters, 30 % of each held out",
    "f38a312d08694ca066f8da55b162b5996291cf7a041a9a57b226cac51c32e847": RESHUFFLED_CIFAR100,
    "42d9afdbe2d9503a8abba4f688df36869d708cc5d66cfdcaeeac8e1e4d145a3d": RESHUFFLED_CIFAR100,
    "f3a3012114c288b25926d0e7f6732e3350549cae5a67582ccbbb89851b80e72d": GROCERY,
    "2477fba08125bf7f3dc5a7ce2b2c9688a28144a3c97aed8f5b1f012862c51093": GROCERY,
    "4f4effb15ae299f9c1c899be4d0f84f8a6969ae65f092965b193643cd0221c08": OMNIGLOT,
    "969867cd8d33c07b14df956b2131574ece1a202f77ec2cef42ae6adb0fa2200c": OMNIGLOT,
}
"""The meaning of a test part's digest; and of all images, for result files of format 1, which have no other."""


def described(data: Mapping[str, Any]) -> str:
    """A result's data in words, with the first figures of the digest over all images and labels."""
    digest = data.get("fingerprint", "")
    # All images of a set have one digest however they are split: only its test part says which split it is.
    key = data["fingerprints"]["test"] if "fingerprints" in data else digest
    text = (
        f"{data['set']}, {data['split']}" if "set" in data else str(data.get("source", "images that nobody has named"))
    )
    return f"Data: {KNOWN.get(key, text)}" + (f", digest `{digest[:12]}`" if digest else "")
