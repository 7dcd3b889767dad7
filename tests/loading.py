"""What commands load, each looked at in a process that has loaded nothing else."""

import json
import subprocess
import sys
from collections.abc import Sequence

HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "matplotlib",
    "scipy",
    "sklearn",
    "onnx",
    "onnxruntime",
    "openvino",
}
SCRIPT = """\
import json, sys
from evergallery.cli import main
for status, words in json.loads(sys.argv[1]):
    sys.argv = ["evergallery", *words]
    try:
        main()
        ended = 0
    except SystemExit as end:
        ended = end.code or 0
    assert ended == status, (words, ended)
    print(json.dumps(sorted(name for name in sys.modules if "." not in name)), file=sys.stderr)
"""
"""Runs commands one after another in one process, and says after each what is loaded by then."""


def loaded(*commands: tuple[int, Sequence[object]]) -> list[set[str]]:
    """Top-level modules that a process has after each of the commands, which end with the status before them."""
    words = [[status, [*map(str, command)]] for status, command in commands]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = [set(json.loads(line)) for line in done.stderr.splitlines() if line.startswith("[")]
    assert len(found) == len(commands), done.stderr
    return found
