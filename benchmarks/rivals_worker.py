"""What other tools make of the same pairs, in an interpreter that has them: reads cases and writes who answers each query.

``python rivals_worker.py CASES ANSWERS``, two folders. A case is an ``.npz`` with ``new`` (N, D) and ``old`` (N, D') of the
pairs, ``queries`` (Q, D) and ``stored`` (G, D'), all unit rows. An answer is an ``.npz`` with the place of the nearest stored
vector (Q,) under the name of each way to get there; a way that a tool refuses is left out, its reason in the ``.json`` beside
it. Each tool is called as its own command line calls it.
"""

import json
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARE_HELD_OUT = 0.2
Vectors = NDArray[np.floating[Any]]
Rows = NDArray[np.int64]
Case = dict[str, Any]


def unit(rows: Vectors) -> Vectors:
    made: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made


def nearest(queries: Vectors, stored: Vectors, bias: Vectors | None = None) -> Rows:
    scores = queries @ stored.T
    found: Rows = (scores if bias is None else scores + bias).argmax(1)
    return found


def embspec_ways(case: Case, refused: dict[str, str]) -> dict[str, Rows]:
    """Least squares of the queries, as in its README."""
    from embspec import DriftAdapter

    try:
        adapter = DriftAdapter.fit(case["new"], case["old"])
    except Exception as error:
        refused["embspec"] = str(error)
        return {}
    return {"embspec": nearest(unit(adapter.transform(case["queries"])), case["stored"])}


def isotrieve_ways(case: Case, refused: dict[str, str]) -> dict[str, Rows]:
    """Its ridge with its own choice of strength, of queries and of stored vectors, as ``isotrieve calibrate`` fits it."""
    from isotrieve import OrthogonalProcrustesMapping, RidgeMapping

    found: dict[str, Rows] = {}
    for name, mapping in (("ridge", RidgeMapping), ("procrustes", OrthogonalProcrustesMapping)):
        for side in ("query", "stored"):
            pair = (case["new"], case["old"]) if side == "query" else (case["old"], case["new"])
            try:
                fitted = mapping().fit(*pair)
            except Exception as error:
                refused[f"isotrieve {name}, {side}"] = str(error)
                continue
            if side == "query":
                found[f"isotrieve {name}, query"] = nearest(fitted.transform(case["queries"]), case["stored"])
            else:
                found[f"isotrieve {name}, stored"] = nearest(case["queries"], fitted.transform(case["stored"]))
    return found


def rebasis_ways(case: Case, refused: dict[str, str]) -> dict[str, Rows]:
    """Every candidate with and without its correction; ``rebasis`` is the one that it takes by held-out pairs itself.

    The one taken is fitted again to all pairs, which the tool does not do.
    """
    from rebasis.core.csls import csls_bias
    from rebasis.core.selection import fit_candidates, select_best
    from rebasis.probe.groundtruth import build_tier0
    from rebasis.probe.runner import evaluate_candidate

    new, old = case["new"], case["old"]
    found: dict[str, Rows] = {}
    bias_of: dict[tuple[str, bool], Rows] = {}
    candidates = fit_candidates(new, old)
    sample = unit(candidates[0].adapter.apply(new))
    bias = csls_bias(case["stored"], sample)
    for candidate in candidates:
        queries = unit(candidate.adapter.apply(case["queries"]))
        bias_of[candidate.method, False] = found[f"rebasis {candidate.method}"] = nearest(queries, case["stored"])
        bias_of[candidate.method, True] = found[f"rebasis {candidate.method}+csls"] = nearest(
            queries, case["stored"], bias
        )
    order = np.random.default_rng(0).permutation(len(new))
    held, kept = order[: int(SHARE_HELD_OUT * len(new))], order[int(SHARE_HELD_OUT * len(new)) :]
    truth = build_tier0(new, new[held], held, k=10)
    tried = fit_candidates(new[kept], old[kept])
    sample = unit(tried[0].adapter.apply(new[kept]))
    for candidate in tried:
        metrics = evaluate_candidate(
            candidate, query_vectors_new=new[held], old_doc_vectors=old, ground_truth=truth, k=10, csls_sample=sample
        )
        candidate.score, candidate.use_csls = metrics.arr, metrics.used_csls
    best = select_best(tried)
    found["rebasis"] = bias_of[best.method, best.use_csls]
    return found


TOOLS: dict[str, Callable[[Case, dict[str, str]], dict[str, Rows]]] = {
    "embspec": embspec_ways,
    "isotrieve": isotrieve_ways,
    "rebasis": rebasis_ways,
}


def main() -> None:
    warnings.filterwarnings("ignore")
    cases, answers = map(Path, sys.argv[1:])
    (answers / "versions.json").write_text(
        json.dumps({"python": sys.version.split()[0], **{tool: version(tool) for tool in TOOLS}})
    )
    for path in sorted(cases.glob("*.npz")):
        if (answers / f"{path.stem}.json").is_file():
            continue
        with np.load(path) as content:
            case = {name: content[name] for name in content.files}
        refused: dict[str, str] = {}
        found: dict[str, Any] = {}
        for ways in TOOLS.values():
            found |= ways(case, refused)
        np.savez(answers / path.name, **found)
        (answers / f"{path.stem}.json").write_text(json.dumps(refused))


if __name__ == "__main__":
    main()
