"""Closed sets of words that options take: said here once more, because what defines them loads PyTorch.

A test compares them with the types and tables that define them.
"""

from typing import Literal

from evergallery.holdings.answer import SearchWay as SearchWay
from evergallery.holdings.answer import Way as Way

Head = Literal["linear", "unit-rows", "projected-rows", "cosine", "simplex"]
Neck = Literal["none", "linear", "bn", "linear-bn", "unit-linear", "mlp"]
Fit = Literal["crop", "pad", "stretch"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]
Precision = Literal["float32", "float16", "int8"]
TrainingPrecision = Literal["auto", "bf16", "float32"]
Direction = Literal["query", "gallery"]
Order = Literal["random", "uncertain", "typical", "oldest", "popular"]
Scope = Literal["read", "write", "admin"]
Budget = Literal["quick", "standard", "paper"]
Runtime = Literal["auto", "torch", "torch.compile", "onnxruntime", "openvino"]
AdapterKind = Literal["procrustes", "linear", "bilateral", "lambda-orthogonal", "mlp", "drift"]
