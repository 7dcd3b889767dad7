"""The place where images are read and embedded: this process, or a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager

from evergallery.errors import InputError
from evergallery.extraction.extraction import Extraction, LocalExtraction
from evergallery.generations.generation import Generation
from evergallery.holdings.holdings import Holdings
from evergallery.holdings.runtimes import running
from evergallery.watching import SILENT, Watcher


def require_workers(cluster: str | None, workers: int | None) -> None:
    """Refuse a number of workers that cannot be, or that belongs to no cluster.

    Raises:
        InputError: it is one.
    """
    if workers is not None and (cluster is None or workers < 1):
        raise InputError("Workers are a cluster's, at least one: give  --cluster ADDRESS --workers N")


@contextmanager
def extracting(
    holdings: Holdings,
    generation: Generation,
    cluster: str | None = None,
    workers: int | None = None,
    watcher: Watcher = SILENT,
) -> Iterator[Extraction]:
    """Open the place where a generation reads and embeds images: this process, or a cluster.

    Args:
        generation: that looks at them.
        cluster: the address of a Ray cluster.
        workers: how many there are to be on it.
        watcher: hears how many there are.

    Raises:
        InputError: a number of workers that cannot be.
        MissingExtraError: a cluster without ray.
        NotFoundError: nothing answers at its address.
    """
    require_workers(cluster, workers)
    if cluster is not None and generation.is_asked:
        raise InputError(
            f"{generation.name} is asked over HTTP, and a cluster would ask no faster: leave --cluster out."
        )
    if cluster is None:
        # Before anything is begun: a network that is damaged, or a runtime that is not there, is found out now.
        running(holdings, generation, 1, watcher)
        yield LocalExtraction(lambda images: running(holdings, generation, images, watcher), generation.preprocessing)
        return
    from evergallery.extraction.cluster import Cluster

    with Cluster(cluster, generation, workers) as found:
        watcher.said(f"{generation.name} extracts on {found.size} workers of the cluster {cluster}")
        before = found.deaths
        yield found
        if found.deaths > before:
            watcher.said(f"workers that died on the way and were replaced: {found.deaths - before}")
