"""The compilers that torch compiles networks with."""

import importlib.util
import os
import shutil

from evergallery.devices.choosing import Device


def missing_compiler(device: Device = "cpu") -> str | None:
    """Say what torch lacks to compile for a device; ``None`` where it lacks nothing.

    For a processor it writes C++; for a GPU Triton, whose launchers are C.
    """
    if device == "cpu":
        if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
            return "there is no C++ compiler: install g++"
        return None
    if importlib.util.find_spec("triton") is None:
        return "there is no Triton: install it, or a PyTorch that comes with it"
    if not any(map(shutil.which, (os.environ.get("CC", "gcc"), "clang"))):
        return "there is no C compiler, which Triton needs: install gcc"
    return None
