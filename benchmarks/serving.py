"""The server under requests from a second process on loopback: pictures looked at together against one by one, and a long load.

Without ``--load``: two servers on the same gallery, one whose model looks at up to 32 waiting pictures together, one that looks
at them one by one, are asked in turn by 1, 4, 16 and 32 clients that each ask again as soon as they are answered.

With ``--before CHECKOUT``: one client searches with pictures by EfficientNet-Lite0, by OpenVINO, at a server of
this checkout and one of an earlier commit in turn; how long each step takes is what the servers' own metrics say.

With ``--ways``: one client asks servers that compute otherwise in turn: in one thread or two, in bfloat16, from JPEGs of a
reduced size, in a gallery of 16 bits; with ``--before`` servers of that commit too, as they are by default. The least median of
their turns says what an idle machine would give, the load what this one was.

With ``--load SECONDS``: one server is asked for a mixture of everything that a page asks for, its memory is read every second,
and a model is promoted and rolled back every ten seconds.
"""

import argparse
import asyncio
import io
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import torch
from PIL import Image

from common import record
from evergallery import Workspace
from evergallery.gallery.items import Precision
from evergallery.network.runtimes import Runtime
from evergallery.serving.app.server import Address, TokenPolicy, serve
from evergallery.serving.limits import Limits
from evergallery.serving.service import ServiceSettings
from evergallery.strings.environment import RUNTIME

ROOT = Path(__file__).parents[1]
CLIENTS = (1, 4, 16, 32)
THREADS = {
    "HTTP": ("MainThread",),
    "decode and resize": ("evergallery-decoding",),
    "network": ("evergallery-model",),
    "search": ("evergallery_", "edge-search"),
}
"""What the threads of a server are for, by the beginnings of their names."""
OTHER = "other threads"
LITE = "tf_efficientnet_lite0"
PICTURES = 64
DIMENSION = 512
SIZE = 128


def make_workspace(directory: Path, items: int) -> None:
    """Two untrained ResNet-18 at 128 pixels, and vectors around centres: what is found does not matter here, the work does."""
    shop = Workspace.create(directory, backbone="resnet18", size=SIZE)
    for seed in (0, 1):
        shop.register("resnet18", pretrained=False, seed=seed, size=SIZE)
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(items, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    path = directory / "vectors.npz"
    np.savez(path, embeddings=vectors, ids=np.array([f"item {number}" for number in range(items)]))
    shop.import_vectors(path, into="v1")
    path.unlink()
    photos = directory / "photos"
    photos.mkdir()
    for number in range(PICTURES):
        (photos / f"{number:03d}.jpg").write_bytes(picture(number))
    shop.index(photos)
    shop.close()


def picture(seed: int, width: int = 480, height: int = 360) -> bytes:
    """A photograph-like JPEG: smooth colours with some detail."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 255, (9, 12, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noisy = np.asarray(coarse, np.int16) + draw.integers(-12, 12, (height, width, 3))
    written = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(written, "JPEG", quality=85)
    return written.getvalue()


@dataclass(frozen=True)
class Way:
    """A way in which a server answers.

    Attributes:
        before: whether it is of the earlier commit.
        runtime: of its network; by default the one that was found to be the fastest.
        threads: of its network, and of what else takes several.
        reduce_jpegs: whether JPEGs are decoded at a reduced size.
        precision: that the gallery keeps its vectors in.
        bf16: whether the network computes in bfloat16, by OpenVINO whatever the runtime.
    """

    before: bool = False
    runtime: Runtime | Literal["auto"] = "auto"
    threads: int = 1
    reduce_jpegs: bool = False
    precision: Precision = "float32"
    bf16: bool = False


WAYS = {
    "before, in one thread": Way(before=True),
    "now, in one thread": Way(),
    "before, in two threads": Way(before=True, threads=2),
    "now, in two threads": Way(threads=2),
    "and reduced JPEGs": Way(threads=2, reduce_jpegs=True),
    "and a gallery in float16": Way(threads=2, reduce_jpegs=True, precision="float16"),
    "the same, bfloat16 in one thread": Way(reduce_jpegs=True, precision="float16", bf16=True),
}


def make_lite_workspace(directory: Path, items: int, way: Way = WAYS["now, in one thread"]) -> None:
    """An untrained EfficientNet-Lite0 whose runtime is found, with as many threads, and vectors of any direction."""
    torch.set_num_threads(way.threads)
    with ExitStack() as stack:
        shop = stack.enter_context(Workspace.create(directory, precision=way.precision))
        if way.bf16:
            # A file in bfloat16 is a generation of its own, which a workspace of its own writes.
            maker = stack.enter_context(Workspace.create(directory.with_name(f"maker of {directory.name}")))
            maker.register(LITE, pretrained=False, size=224, reduce_jpegs=way.reduce_jpegs)
            file = directory.with_suffix(".onnx")
            maker.export_model(file, bf16=True)
            shop.register(file)
        else:
            shop.register(LITE, pretrained=False, size=224, reduce_jpegs=way.reduce_jpegs)
        vectors = np.random.default_rng(0).normal(size=(items, 1280)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        path = directory / "vectors.npz"
        np.savez(path, embeddings=vectors, ids=np.array([f"item {number}" for number in range(items)]))
        shop.import_vectors(path, into="v1")
        path.unlink()
        query = directory / "query.jpg"
        query.write_bytes(picture(0))
        shop.embed(query, shop.promoted)


@dataclass(frozen=True)
class ServerProcess:
    """A server in a process of its own."""

    port: int
    process: subprocess.Popen[str]

    def computed(self) -> dict[str, float]:
        """Seconds of a processor that it has taken so far, by what its threads are for."""
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGUSR1)
        told: dict[str, float] = json.loads(self.process.stdout.readline())
        return told


@contextmanager
def served(directory: Path, together: int, source: Path = ROOT, way: Way | None = None) -> Iterator[ServerProcess]:
    """A server of a checkout, started by this script, with the runtime and threads of this process or of a way."""
    command = [sys.executable, __file__, "--server", str(directory), "--together", str(together)]
    environment = {**os.environ, "PYTHONPATH": str(source / "src")}
    if way is not None:
        environment |= {RUNTIME: way.runtime, "OMP_NUM_THREADS": str(way.threads)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield ServerProcess(int(process.stdout.readline().split(":")[2].split()[0]), process)
    finally:
        process.terminate()
        process.wait(60)


def tell_computed(*_: object) -> None:
    """Print what this process has computed, by what its threads are for; a handler of signals."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    told = dict.fromkeys((*THREADS, OTHER), 0.0)
    for task in Path("/proc/self/task").iterdir():
        name = names.get(int(task.name), (task / "comm").read_text().strip())
        kind = next((kind for kind, beginning in THREADS.items() if name.startswith(beginning)), OTHER)
        told[kind] += int((task / "schedstat").read_text().split()[0]) / 1e9
    print(json.dumps(told), flush=True)


def request(method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def image_request(data: bytes) -> bytes:
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x.jpg"\r\n\r\n' + data + b"\r\n--b--\r\n"
    return request("POST", "/api/v1/search/image", part, "multipart/form-data; boundary=b")


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class LoadResult:
    """What came back: seconds by kind of request, and statuses."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.statuses: Counter[int] = Counter()

    def told(self, elapsed: float) -> dict[str, Any]:
        everything = [seconds for times in self.seconds.values() for seconds in times]
        return {
            "requests": len(everything),
            "requests_per_second": len(everything) / elapsed,
            "errors": sum(count for status, count in self.statuses.items() if status != 200),
            "milliseconds": {name: percentiles(times) for name, times in sorted(self.seconds.items())},
        }


def percentiles(seconds: list[float]) -> dict[str, float]:
    p50, p95, p99 = (1000 * float(np.percentile(seconds, share)) for share in (50, 95, 99))
    return {"p50": p50, "p95": p95, "p99": p99, "max": 1000 * max(seconds)}


async def ask(stream: Stream, name: str, content: bytes, asked: LoadResult) -> None:
    """One request; with bare sockets, so that asking costs little beside answering."""
    reader, writer = stream
    began = time.perf_counter()
    writer.write(content)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    await reader.readexactly(int(length[1]) if length else 0)
    asked.seconds.setdefault(name, []).append(time.perf_counter() - began)
    asked.statuses[int(head[9:12])] += 1


async def client(port: int, requests: list[tuple[str, bytes]], until: float, seed: int, asked: LoadResult) -> None:
    """Ask one request after another over one connection."""
    draw = np.random.default_rng(seed)
    stream = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        await ask(stream, *requests[int(draw.integers(len(requests)))], asked)
    stream[1].close()
    await stream[1].wait_closed()


async def clients(port: int, requests: list[tuple[str, bytes]], count: int, seconds: float) -> dict[str, Any]:
    asked, began = LoadResult(), time.perf_counter()
    await asyncio.gather(*(client(port, requests, began + seconds, seed, asked) for seed in range(count)))
    return {"clients": count, **asked.told(time.perf_counter() - began)}


def compare(directory: Path, seconds: float, repeats: int) -> dict[str, Any]:
    requests = [("search/image", image_request(picture(1000 + number))) for number in range(PICTURES)]
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {
        name: {count: [] for count in CLIENTS} for name in ("together", "one by one")
    }
    copy = directory.parent / "copy"
    shutil.copytree(directory, copy)
    with served(directory, 32) as together, served(copy, 1) as alone:
        servers = {"together": together, "one by one": alone}
        for server in servers.values():
            asyncio.run(clients(server.port, requests, 4, 2.0))
        for _ in range(repeats):
            for count in CLIENTS:
                for name, server in servers.items():
                    runs[name][count].append(asyncio.run(clients(server.port, requests, count, seconds)))
    told: dict[str, Any] = {}
    for count in CLIENTS:
        row: dict[str, Any] = {}
        for name in runs:
            several = runs[name][count]
            row[name] = {
                "requests_per_second": statistics.median(float(load["requests_per_second"]) for load in several),
                "errors": sum(int(load["errors"]) for load in several),
                "milliseconds": {
                    share: statistics.median(load["milliseconds"]["search/image"][share] for load in several)
                    for share in ("p50", "p95", "p99")
                },
            }
        row["times_the_throughput"] = row["together"]["requests_per_second"] / row["one by one"]["requests_per_second"]
        told[str(count)] = row
    return told


def steps(port: int) -> dict[str, tuple[float, float]]:
    """Seconds that each step of all searches took so far, and how many there were, as a server tells them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        told = answer.read().decode()
    found = {
        (kind, step): float(value)
        for kind, step, value in re.findall(r'evergallery_search_seconds_(sum|count){step="(\w+)"} (\S+)', told)
    }
    return {step: (found["sum", step], found["count", step]) for kind, step in found if kind == "sum"}


def photographs() -> list[tuple[str, bytes]]:
    """Searches with JPEGs of 640 × 480."""
    return [("search/image", image_request(picture(1000 + number, 640, 480))) for number in range(PICTURES)]


def ways(folder: Path, items: int, seconds: float, repeats: int, before: Path | None) -> dict[str, Any]:
    """One client, at servers that answer in each of the ways, in turn; those of an earlier commit where it is given."""
    requests, found = photographs(), dict[str, list[tuple[float, dict[str, float]]]]()
    at_first = os.getloadavg()
    with ExitStack() as stack:
        servers = {}
        for number, (name, way) in enumerate(WAYS.items()):
            if way.before and before is None:
                continue
            make_lite_workspace(folder / str(number), items, way)
            source = before if way.before and before is not None else ROOT
            servers[name] = stack.enter_context(served(folder / str(number), 32, source, way))
            asyncio.run(clients(servers[name].port, requests, 1, 2.0))
        for _ in range(repeats):
            for name, server in servers.items():
                spent = server.computed()
                answered = asyncio.run(clients(server.port, requests, 1, seconds))
                each = {
                    kind: 1000 * (total - spent[kind]) / answered["requests"]
                    for kind, total in server.computed().items()
                }
                found.setdefault(name, []).append((answered["milliseconds"]["search/image"]["p50"], each))
    told: dict[str, Any] = {}
    for name, turns in found.items():
        least = min((each for _, each in turns), key=lambda each: sum(each.values()))
        told[name] = {
            "p50, ms": {
                "least": round(min(p50 for p50, _ in turns), 2),
                "median": round(statistics.median(p50 for p50, _ in turns), 2),
            },
            "processor milliseconds a search": {
                **{kind: round(value, 2) for kind, value in least.items()},
                "all": round(sum(least.values()), 2),
            },
        }
    return {"load": {"before": at_first, "after": os.getloadavg()}, "turns": repeats, "ways": told}


def alone(directory: Path, before: Path, seconds: float, repeats: int) -> dict[str, Any]:
    """One client, here and at an earlier commit in turn."""
    requests = photographs()
    copy = directory.parent / "copy"
    shutil.copytree(directory, copy)
    told: dict[str, Any] = {}
    ratios: dict[str, list[float]] = {"p50": [], "of a processor": []}
    with served(copy, 32, before) as earlier, served(directory, 32) as now:
        servers = {"before": earlier, "now": now}
        for server in servers.values():
            asyncio.run(clients(server.port, requests, 1, 2.0))
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        computed: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        known = {name: steps(server.port) for name, server in servers.items()}
        for _ in range(repeats):
            for name, server in servers.items():
                spent = server.computed()
                answered = asyncio.run(clients(server.port, requests, 1, seconds))
                runs[name].append(answered["milliseconds"]["search/image"])
                each = {
                    kind: 1000 * (total - spent[kind]) / answered["requests"]
                    for kind, total in server.computed().items()
                }
                computed[name].append({**each, "all": sum(each.values())})
            ratios["p50"].append(runs["before"][-1]["p50"] / runs["now"][-1]["p50"])
            ratios["of a processor"].append(computed["before"][-1]["all"] / computed["now"][-1]["all"])
        for name, server in servers.items():
            after = steps(server.port)
            least = min(computed[name], key=lambda each: each["all"])
            told[name] = {
                "processor milliseconds a search": {kind: round(least[kind], 2) for kind in (*THREADS, OTHER, "all")},
                "milliseconds": {
                    share: round(statistics.median(one[share] for one in runs[name]), 2) for share in runs[name][0]
                },
                "mean of each step, ms": {
                    step: round(1000 * (after[step][0] - first) / (after[step][1] - count), 2)
                    for step, (first, count) in known[name].items()
                },
            }
    return {
        **told,
        "times as fast": {
            name: {"median": round(statistics.median(turns), 3), "each": [round(ratio, 3) for ratio in turns]}
            for name, turns in ratios.items()
        },
    }


def load(directory: Path, seconds: float, count: int) -> dict[str, Any]:
    """Everything that a page asks for, while the answering model changes every ten seconds."""
    with Workspace(directory) as shop:
        stored = [item.id for item in next(iter(shop.gallery.iterate(batch_size=2000))) if item.uri]
    draw = np.random.default_rng(1)
    vectors = draw.normal(size=(PICTURES, DIMENSION)).tolist()
    requests = [("search/image", image_request(picture(1000 + number))) for number in range(PICTURES)]
    requests += [
        ("search by vector", request("POST", "/api/v1/search", json.dumps({"vector": vector}).encode()))
        for vector in vectors
    ]
    requests += [
        ("search by item", request("POST", "/api/v1/search", json.dumps({"item": stored[n % len(stored)]}).encode()))
        for n in range(PICTURES)
    ]
    requests += [
        ("thumbnail", request("GET", f"/api/v1/thumbnail?id={quote(stored[n % len(stored)], safe='')}"))
        for n in range(PICTURES)
    ]
    requests += [("items", request("GET", f"/api/v1/items?limit=20&after=item%20{n}")) for n in range(PICTURES)]
    requests += [("status", request("GET", "/api/v1/status"))] * 8
    memory: list[int] = []

    async def watch(process: int, until: float) -> None:
        while time.perf_counter() < until:
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
            memory.append(pages * os.sysconf("SC_PAGE_SIZE") >> 20)
            await asyncio.sleep(1.0)

    async def switch(port: int, until: float, asked: LoadResult) -> None:
        verbs = (("promote", b'{"generation": "v2", "force": true, "why": "the load"}'), ("rollback", b""))
        stream, turn = await asyncio.open_connection("127.0.0.1", port), 0
        while time.perf_counter() + 10 < until:
            await asyncio.sleep(10.0)
            name, body = verbs[turn % 2]
            await ask(stream, name, request("POST", f"/api/v1/{name}", body), asked)
            turn += 1
        stream[1].close()

    async def everything(port: int, process: int) -> dict[str, Any]:
        asked, began = LoadResult(), time.perf_counter()
        until = began + seconds
        await asyncio.gather(
            watch(process, until), switch(port, until, asked),
            *(client(port, requests, until, seed, asked) for seed in range(count)),
        )  # fmt: skip
        return asked.told(time.perf_counter() - began)

    with served(directory, 32) as server:
        told = asyncio.run(everything(server.port, server.process.pid))
    half = memory[len(memory) // 2 :]
    return {
        "seconds": seconds,
        "clients": count,
        **told,
        "memory_mib": {
            "every_tenth": memory[:: max(1, len(memory) // 10)],
            "at_the_end": memory[-1],
            "growth_a_minute_in_the_second_half": 60 * float(np.polyfit(np.arange(len(half)), half, 1)[0]),
        },
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000, help="of the gallery")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--before", type=Path, help="a checkout of the commit to compare one client's searches with")
    parser.add_argument(
        "--ways", action="store_true", help="one client, at servers with other threads, runtimes and numbers"
    )
    parser.add_argument("--load", type=float, metavar="SECONDS", help="the mixture, for so long")
    parser.add_argument("--clients", type=int, default=8, help="of the mixture")
    parser.add_argument("--server", type=Path, help="serve this workspace, and do nothing else")
    parser.add_argument("--together", type=int, default=32)
    options = parser.parse_args()
    if options.server:
        signal.signal(signal.SIGUSR1, tell_computed)
        limits = Limits(rate=0, together=options.together)
        serve(options.server, Address(port=0), ServiceSettings(limits), policy=TokenPolicy(allow_writes=True))
        return
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "shop"
        if options.before or options.ways:
            os.environ[RUNTIME] = "openvino"
        if options.ways:
            found = ways(Path(folder), options.items, options.seconds, options.repeats, options.before)
            record("serving_ways", {"items": options.items, "network": "EfficientNet-Lite0", **found})
            return
        if options.before:
            make_lite_workspace(directory, options.items)
            found = alone(directory, options.before, options.seconds, options.repeats)
            record(
                "serving_alone",
                {"items": options.items, "network": "EfficientNet-Lite0", "runtime": "openvino", **found},
            )
            return
        make_workspace(directory, options.items)
        about: dict[str, Any] = {
            "items": options.items,
            "backbone": f"resnet18 at {SIZE} pixels",
            "dimension": DIMENSION,
        }
        if options.load:
            record("serving_load", {**about, **load(directory, options.load, options.clients)})
        else:
            record("serving", {**about, "by_clients": compare(directory, options.seconds, options.repeats)})


if __name__ == "__main__":
    main()
