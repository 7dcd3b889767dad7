"""Tables and plots of a directory of results."""

from pathlib import Path

from evergallery.benchmark.further_tables import evaluated_markdown, old_rates_markdown, ranks_markdown
from evergallery.benchmark.plots import write_plots
from evergallery.benchmark.tables import comma_separated, latex, markdown, read_runs
from evergallery.benchmark.updates import updates_markdown


def write_report(directory: Path) -> Path:
    """Write ``table.md``, ``table.csv``, ``table.tex`` and the plots beside the runs; returns the Markdown file.

    Raises:
        InputError: the directory holds no results.
    """
    runs = read_runs(directory)
    (directory / "table.csv").write_text(comma_separated(runs))
    (directory / "table.tex").write_text(latex(runs))
    plots = write_plots(runs, directory)
    pictures = "\n".join(f"![{path.stem}]({path.name})" for path in plots)
    path = directory / "table.md"
    further = (ranks_markdown, old_rates_markdown, evaluated_markdown, updates_markdown)
    tables = "".join([f"{markdown(runs)}\n", *(written(runs) for written in further)])
    path.write_text(f"# {runs[0]['protocol']}, budget {runs[0]['budget']}\n\n{tables}{pictures}\n")
    return path
