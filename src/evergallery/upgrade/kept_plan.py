"""The measurements of a plan, kept until anything changes that they depend on; they may be deleted at any time.

It depends on the sample with its vectors and image files, on what the workspace knows of its spaces, on how often items were
found, and on the processor, the GPU and the libraries, which decide the pace. Anything that differs is measured anew.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from evergallery._version import __version__
from evergallery.data.places import local_path
from evergallery.devices.choosing import gpu_drivers
from evergallery.errors import EvergalleryError
from evergallery.files import read_object, write_json
from evergallery.gallery.items import Item
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.runtimes import machine
from evergallery.network.runtimes import asked_for
from evergallery.upgrade.gate import gate_of
from evergallery.upgrade.plan import PlanBasis, SampleMeasurements

_measured = TypeAdapter(SampleMeasurements)


def identity_of(holdings: Holdings, basis: PlanBasis) -> str | None:
    """SHA-256 of all that a measurement depends on; ``None`` where that cannot be told, and nothing is kept.

    Images that are given may be any; and where images lie that nobody has allowed to be opened, whoever watches is asked.
    """
    roots, proposal, sampled, orders = holdings.roots, basis.proposal, basis.sampled, basis.orders
    if proposal.images is not None or not all(item.uri is None or roots.admits(item.uri) for item in sampled):
        return None
    found = holdings.notes.times_found()
    content = {
        "version": __version__,
        "machine": machine(),
        "runtime": asked_for(),
        "gpu": [gpu_drivers(), os.environ.get("CUDA_VISIBLE_DEVICES")],
        "spaces": [basis.asker.fingerprint, basis.target.fingerprint],
        "adapters": [stored.fingerprint for stored in holdings.adapters()],
        "shares": list(proposal.shares),
        "orders": orders and list(orders),
        "price": proposal.price_per_hour,
        "counts": [basis.counts, holdings.gallery.count_by_generation(view=holdings.state.view())],
        "state": holdings.state.model_dump(mode="json"),
        "gate": gate_of(holdings).model_dump(mode="json"),
        "sample": [[*_told(item), found.get(item.id, 0)] for item in sampled],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def known(holdings: Holdings, basis: PlanBasis, identity: str) -> SampleMeasurements | None:
    """Return what an earlier plan has measured of the same."""
    with suppress(OSError, EvergalleryError, ValidationError):
        content = read_object(_place(holdings, basis), identity=str, measured=dict)
        if content["identity"] == identity:
            return _measured.validate_python(content["measured"])
    return None


def keep(holdings: Holdings, basis: PlanBasis, identity: str, measured: SampleMeasurements) -> None:
    """Keep what was measured, in place of what was kept of these spaces.

    A disk that takes nothing costs the next plan its time, and nothing else.
    """
    with suppress(OSError, EvergalleryError):
        place = _place(holdings, basis)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, {"identity": identity, "measured": _measured.dump_python(measured, mode="json")})


def _place(holdings: Holdings, basis: PlanBasis) -> Path:
    name = "-".join(space.fingerprint[:16] for space in (basis.asker, basis.target))
    return holdings.directory / "cache" / "plans" / f"{name}.json"


def _told(item: Item) -> list[Any]:
    """Return what is known of an item and its file."""
    vector = hashlib.sha256(item.embedding.tobytes()).hexdigest()
    return [item.id, item.label, item.uri, item.generation, item.content_hash, item.added, vector, _file(item.uri)]


def _file(uri: str | None) -> list[int] | None:
    """Size and time of the file at an address on this machine, where there is one."""
    path = None if uri is None else local_path(uri)
    with suppress(OSError, ValueError):
        status = None if path is None else Path(path).stat()
        return status and [status.st_size, status.st_mtime_ns]
    return None
