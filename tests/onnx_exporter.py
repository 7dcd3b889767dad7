"""The exporter of ONNX files, for tests that write several."""

from functools import cache


@cache
def read_library_once() -> None:
    """Let the exporter keep what it reads from the sources of its library, which takes it a second for each file."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    ONNXRegistry.from_torchlib = staticmethod(cache(ONNXRegistry.from_torchlib))  # type: ignore[method-assign]
