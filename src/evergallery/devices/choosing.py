"""The choice of a device: the one place that says when a GPU is worth opening. It takes some seconds to open one."""

import sys
from pathlib import Path
from typing import Literal

Device = Literal["cuda", "cpu"]
GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Device files of the drivers of NVIDIA, of AMD, and of Windows below Linux."""

FEW = 100
"""So few images are worth no GPU, and no trial of runtimes."""
MANY_PRODUCTS = 1e11
"""So many multiplications are worth a GPU: a processor takes seconds for them. It is four hundred queries among half a million
vectors of 512 dimensions, or 14 000 images of that width among themselves."""


def gpu_drivers() -> list[str]:
    """The drivers of GPUs that there are on this machine."""
    return [driver for driver in GPU_DRIVERS if Path(driver).exists()]


def has_gpu() -> bool:
    """Return whether torch sees a GPU; torch is loaded to ask it only where there is a driver."""
    if "torch" not in sys.modules and not gpu_drivers():
        return False
    import torch

    return torch.cuda.is_available()


def device_for(images: int) -> Device:
    """Return where so many images are looked at: many on a GPU that torch sees, a few on the processor, which is open."""
    return "cuda" if images >= FEW and has_gpu() else "cpu"


def device_for_products(multiplications: float) -> Device:
    """Return where searches among tensors, and maps between spaces, are computed that take so many multiplications."""
    return "cuda" if multiplications >= MANY_PRODUCTS and has_gpu() else "cpu"
