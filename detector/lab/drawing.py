"""What all pictures have in common: matplotlib, which is an extra, and PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from detector.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, *, without: str) -> Figure:
    """An empty figure, inches. without: the option that does without the picture.

    raises ConfigError  matplotlib is not installed (extra `train`)
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("a picture needs matplotlib", fix=f"pip install 'detector[train]', or {without}") from None
    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    return drawn.getvalue()
