"""The frame of every report page: a template, plots and pictures, all inside the one file."""

import base64
import io
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from evergallery.data.image_set import ImageSet
from evergallery.errors import extra
from evergallery.files import write_atomic

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.axes import Axes

LIGHT = {"text": "#1c2430", "faint": "#c9d0d8"}
DARK = {"text": "#e8ecf1", "faint": "#3b4654"}
DARK_FOR = {light: DARK[name] for name, light in LIGHT.items()}
"""Colours for dark ground by those for light ground."""
COLOURS = ("#3d7dca", "#d9772b", "#2f9e6e", "#9467bd", "#c94f6d")
"""Told apart by the colour-blind, and readable on light and dark ground."""


@cache
def _environment() -> "Environment":
    # A workspace that writes no report does without it.
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("evergallery.report"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    return environment


def write_page(path: Path, template: str, **values: Any) -> None:
    """Render a template of this package to one HTML file that needs no network."""
    write_atomic(path, _environment().get_template(template).render(**values))


def prose(sentence: str) -> Markup:
    """A sentence as it is shown: no line ends before a %, and commands, set off by two spaces, are code."""
    tight = str(escape(sentence)).replace(" %", "\N{NO-BREAK SPACE}%")
    return Markup(re.sub(r"\s{2,}(evergallery .*?)(\.?)(?:\s{2,}|$)", r" <code>\1</code>\2 ", tight).strip())


def picture(pixels: NDArray[np.uint8]) -> str:
    """An image (H, W, 3) as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return _uri("png", buffer.getvalue())


def pictured(images: ImageSet) -> bool:
    """Return whether there is anything to see: embeddings without images come with one pixel for all of them."""
    return images.pixels.shape[1:3] != (1, 1)


def shown_image(images: ImageSet, index: int, label: int) -> dict[str, Any]:
    """An image as a template shows it, and whether it is of the class that was asked for."""
    own = images.labels[index]
    return {
        "src": picture(images.pixels[images.rows[index]]) if pictured(images) else None,
        "label": images.classes[own],
        "right": bool(own == label),
    }


def plot(draw: "Callable[[Axes], None]", alternative: str, size: tuple[float, float] = (7.2, 3.4)) -> Markup:
    """A matplotlib plot as an inline picture, once for light and once for dark ground.

    Args:
        draw: draws on the axes it is given.
        alternative: what the plot shows, in words.
        size: in inches.
    """
    light = _svg(draw, size)
    # The same lines in other colours: to draw them again would take as long as the first time.
    dark = re.sub("|".join(LIGHT.values()), lambda found: DARK_FOR[found[0]], light)
    return Markup(
        '<picture><source media="(prefers-color-scheme: dark)" srcset="{}"><img class="plot" src="{}" alt="{}"></picture>'
    ).format(*(_uri("svg+xml", drawn.encode()) for drawn in (dark, light)), alternative)


def require_plots(feature: str) -> None:
    """See that plots can be drawn, before anything is measured for them.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with extra(feature, "report"):
        import matplotlib  # noqa: F401


def _svg(draw: "Callable[[Axes], None]", size: tuple[float, float]) -> str:
    """A plot in the colours for light ground."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "text.color": LIGHT["text"],
        "axes.labelcolor": LIGHT["text"],
        "axes.edgecolor": LIGHT["faint"],
        "xtick.color": LIGHT["text"],
        "ytick.color": LIGHT["text"],
        "grid.color": LIGHT["faint"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 10,
        "svg.hashsalt": "evergallery",
        "svg.fonttype": "path",
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()
