"""A run from its images to the generation: a network learns from its inputs, or its neck is solved."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evergallery.data.features import FeatureSet
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.errors import InputError
from evergallery.generations.generation import Generation, directory_name, generation_directories
from evergallery.generations.writing import TrainingRecord, write_network
from evergallery.learning.inputs import Features, Inputs, cut_validation, relabel
from evergallery.learning.networks import Networks, another_network, memory_of, root_beside
from evergallery.learning.run import Run
from evergallery.learning.runs import begin, finished, on_other_images, run_directory
from evergallery.learning.solving import lineage_scatter, solve
from evergallery.memory import ClassMeans, Memory, TrainingOutputs
from evergallery.network import Network, Outputs
from evergallery.network.features import AugmentedViews
from evergallery.network.ranks import Ranks
from evergallery.strings.redaction import redacted_text
from evergallery.training import Lineage, TrainingData, TrainingResult, train
from evergallery.watching import Watcher


class Learner:
    """Turns the images of one run into its generation.

    The run's directory stays until ``tidy_up``, so that a process killed in between does not learn it again.

    Args:
        directory: of the workspace.
        run: how to learn.
        images: training images, validation still among them.
        watcher: hears of progress.
        ranks: who learn together, all of whom do the same; the first one writes.
    """

    def __init__(self, directory: Path, run: Run, images: ImageSet, watcher: Watcher, ranks: Ranks) -> None:
        self.directory, self.run, self.watcher, self.ranks = directory, run, watcher, ranks
        self.images = relabel(images, run.old_classes + run.new_classes(images))
        self.data = {
            "images": len(images),
            "classes": len(np.unique(images.labels)),
            "fingerprint": self.images.fingerprint(),
        }
        self.identity = run.identity(self.images, self.data)
        if ranks.agreed(self.identity) != self.identity:
            raise InputError("The processes have read different images: learn again once nobody changes them.")

    def learn(self) -> Generation:
        """Prepare the inputs, learn from them, remember them, and write the generation; an interrupted run is continued."""
        done = self.ranks.agreed(finished(self.directory, self.identity))
        if done:
            return Generation.load(done)
        self.begin()
        networks = Networks.of(self.run, len(self.images.classes), self.watcher)
        inputs = self.inputs(networks)
        features, scatter = inputs.training, None
        if isinstance(features, FeatureSet):
            scatter = lineage_scatter(self.run, networks.new, features, self.ranks.device)
        result = None
        if self.run.solves and isinstance(features, FeatureSet) and scatter is not None:
            result = solve(self.run, networks.new, features, scatter)
        trained, solved = result or (self.train(networks, inputs), None)
        self.watcher.said("remembering the class means")
        memory = replace(self.memory(networks, inputs), scatter=scatter)
        path = self.directory / "generations" / directory_name(self.run.number)
        if self.ranks.is_first:
            write_network(
                path,
                networks.new,
                self.run.preprocessing,
                TrainingRecord(memory, self.images.hashes),
                root_beside(self.run),
                **self.card(inputs, trained, solved),
            )
        self.ranks.wait()
        return Generation.load(path)

    def begin(self) -> None:
        """Make the run's directory, and say what of other runs or of the parent is worth knowing."""
        run, parent = self.run, self.run.parent
        mine = run_directory(self.directory, self.identity)
        if mine.is_dir():
            self.watcher.said("continuing the run that was interrupted")
        for other in on_other_images(self.directory, self.identity, run):
            self.watcher.said(
                f"{other} is the unfinished run of this same command on other images, or on the same in another order: it is "
                f"left as it is, and this one begins by itself; delete it if those images do not come back"
            )
        optional = run.method.needs.old_head == "optional" and not run.solves
        if optional and parent is not None and parent.head_card.classes == 0:
            self.watcher.said(
                f"{parent.name} has no classifier: {run.method.name} leaves out what it would read from it"
            )
        mine.mkdir(parents=True, exist_ok=True)
        if self.ranks.is_first:
            begin(mine, run)

    def inputs(self, networks: Networks) -> Inputs:
        """Return what is learned from and what the epoch is chosen by: images, or where only the neck learns their features."""
        settings = self.run.settings
        # Where nothing is chosen by it, a validation part would only be images that nobody learns from.
        fraction = 0 if self.run.solves else settings.validation_fraction
        training, validation = cut_validation(self.images, fraction, settings.validation_seed)
        if not self.run.frozen:
            return Inputs(training, validation, training, {})
        views = AugmentedViews(settings.views, settings.flip)
        features = Features(self.directory, networks.involved, views, self.watcher, self.ranks)
        learned = features.of(training)
        chosen_by = None if validation is None else features.of(validation)
        return Inputs(learned, chosen_by, training, features.columns)

    def train(self, networks: Networks, inputs: Inputs) -> TrainingResult:
        """Train the network step by step."""
        run = self.run
        parent, root = networks.parent, networks.root
        another = another_network(run, len(self.images.classes))
        lineage = Lineage(
            parent=inputs.fit(parent, run.parent.preprocessing) if parent and run.parent else None,
            root=inputs.fit(root, run.root.preprocessing) if root and run.root else None,
            inherited=run.inherits,
            memory=memory_of(run),
            another_network=lambda beginning: inputs.fit(another(beginning), run.preprocessing),
            name=run.parent.name if run.parent else "the parent",
        )
        return train(
            inputs.fit(networks.new, run.preprocessing),
            run.method,
            TrainingData(inputs.training, inputs.validation, run.preprocessing),
            run.settings,
            run_directory(self.directory, self.identity),
            lineage=lineage,
            watcher=self.watcher,
        )

    def memory(self, networks: Networks, inputs: Inputs) -> Memory:
        """Return what the generation remembers of its images, and its parent of those before."""
        run, parent = self.run, self.run.parent

        def outputs(network: Network, preprocessing: Preprocessing, name: str) -> Outputs:
            count = partial(self.watcher.counted, f"class means by {name}")
            return inputs.outputs(network, preprocessing, self.ranks, count)

        def ancestors() -> dict[str, tuple[ClassMeans, Outputs]]:
            # Where a generation was deleted from disk, only the drift that was chained through it is known.
            kept = map(Generation.load, generation_directories(self.directory / "generations"))
            known = [earlier for earlier in kept if parent is not None and earlier.name in parent.card.memory]
            return {
                earlier.name: (
                    earlier.memory().means[earlier.name],
                    outputs(earlier.network(), earlier.preprocessing, earlier.name),
                )
                for earlier in known
            }

        return run.method.remember(
            run.name,
            memory_of(run),
            TrainingOutputs(
                torch.from_numpy(inputs.training.labels),
                outputs(networks.new, run.preprocessing, run.name),
                outputs(networks.parent, parent.preprocessing, parent.name) if networks.parent and parent else None,
            ),
            ancestors,
        )

    def card(self, inputs: Inputs, trained: TrainingResult, solved: dict[str, Any] | None) -> dict[str, Any]:
        """Return what the card of the generation says of the run."""
        run, images = self.run, self.images
        return {
            "name": run.name,
            "parent": run.parent.name if run.parent else None,
            "run": self.identity,
            "method": run.method_card,
            "classes": images.classes,
            "new_classes": run.new_classes(images),
            "data": {
                **self.data,
                "training": len(inputs.training),
                "validation": len(inputs.validation) if inputs.validation else 0,
                "skipped": [redacted_text(str(skipped)) for skipped in images.skipped],
            },
            "settings": run.settings.model_dump(),
            "training": {
                "epochs": trained.epochs,
                "best_epoch": trained.best_epoch,
                "images_seen": trained.images_seen,
                "seconds": round(trained.seconds, 2),
                **({"root": run.root.name} if run.root and solved is None else {}),
                **({"solved": solved} if solved is not None else {}),
                "device": trained.device,
                "precision": trained.precision,
                **({"processes": self.ranks.size} if self.ranks.size > 1 else {}),
                "validation": trained.validation,
            },
        }
