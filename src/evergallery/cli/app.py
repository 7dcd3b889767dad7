"""The verbs by what they are for, each with an example; everything heavy is imported when a verb runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from evergallery.cli.benchmark import benchmark
from evergallery.cli.check import check, verify
from evergallery.cli.common import with_quiet
from evergallery.cli.console import Terminal, out
from evergallery.cli.exchange import adopt, export, export_model, import_, register, release
from evergallery.cli.gallery import gallery_app
from evergallery.cli.history import diff, log, status
from evergallery.cli.images import index, search
from evergallery.cli.learn import learn
from evergallery.cli.report import report
from evergallery.cli.serve import serve, token_app
from evergallery.cli.upgrade import adapt, plan, promote, refresh, rollback
from evergallery.cli.workspaces import demo, doctor, generations, init

VERBS: dict[str, dict[str, tuple[Callable[..., None], str]]] = {
    "Begin": {
        "demo": (demo, "evergallery demo"),
        "init": (init, "evergallery init shop --backbone tf_efficientnet_lite0 --pretrained --size 128"),
        "register": (register, "evergallery register resnet50 --weights ours.safetensors"),
    },
    "Learn and search": {
        "learn": (learn, "evergallery learn photos/spring"),
        "index": (index, "evergallery index photos/catalogue"),
        "search": (search, "evergallery search query.jpg -k 5"),
        "serve": (serve, "evergallery serve --port 8765"),
    },
    "Upgrade": {
        "check": (check, "evergallery check v2 --data photos/held-out"),
        "promote": (promote, "evergallery promote v2"),
        "rollback": (rollback, "evergallery rollback"),
        "plan": (plan, "evergallery plan v2"),
        "refresh": (refresh, "evergallery refresh v2 --budget 10m"),
        "adapt": (adapt, "evergallery adapt v2 v1 --pairs photos/catalogue"),
    },
    "Look": {
        "status": (status, "evergallery status"),
        "generations": (generations, "evergallery generations v2"),
        "diff": (diff, "evergallery diff v1 v2"),
        "log": (log, "evergallery log --limit 10"),
        "report": (report, "evergallery report --data photos/held-out"),
        "doctor": (doctor, "evergallery doctor"),
    },
    "Exchange": {
        "adopt": (adopt, "evergallery adopt 'postgresql://localhost/shop?table=items'"),
        "release": (release, "evergallery release"),
        "import": (import_, "evergallery import vectors.parquet --into v1"),
        "export": (export, "evergallery export backup.parquet"),
        "export-model": (export_model, "evergallery export-model v1 model.onnx"),
    },
    "Measure": {
        "benchmark": (benchmark, "evergallery benchmark glyphs --budget quick"),
        "verify": (verify, "evergallery verify v2 --data pairs.csv --against v1"),
    },
}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Visual search whose gallery outlives its model: learn new categories without the old images, keep the stored "
    "vectors, and know before you switch.",
)


def version(value: bool) -> None:
    """Print the version and stop."""
    if value:
        from evergallery._version import __version__

        out.print(__version__)
        raise typer.Exit


@app.callback(epilog="Exit status 0 is done, 1 no, 2 wrong usage, 3 not found; all of them stand in docs/cli.md.")
def root(
    place: Annotated[
        Path | None,
        typer.Option("--workspace", "-w", metavar="DIRECTORY", help="The workspace; it may also stand after the verb."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no progress; it may also stand after the verb.")
    ] = False,
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Visual search whose gallery outlives its model."""
    Terminal.hides_progress = quiet


for panel, verbs in VERBS.items():
    for name, (verb, example) in verbs.items():
        app.command(name, rich_help_panel=panel, epilog=f"Example:  {example}")(with_quiet(verb))
app.add_typer(gallery_app, name="gallery", rich_help_panel="Learn and search")
app.add_typer(token_app, name="token", rich_help_panel="Learn and search")
