"""What goes through a network at once."""

import torch

from evergallery.network.extraction import in_parts


def test_a_cpu_takes_a_batch_in_parts_and_a_gpu_as_a_whole() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for size, count, expected in ((32, 150, [64, 64, 22]), (128, 40, [16, 16, 8]), (1024, 2, [1, 1]), (64, 0, [0])):
        images = torch.arange(count * 3, dtype=torch.uint8).view(count, 3, 1, 1).expand(-1, -1, size, size)
        parts = in_parts(images, cpu)
        assert [len(part) for part in parts] == expected
        assert torch.equal(torch.cat(parts), images)
        assert in_parts(images, gpu) == (images,)
