"""What all figures share: their colours, and matplotlib, which is not always installed."""

from typing import Any

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")


def import_pyplot(owner: str) -> Any:
    """Imports `matplotlib.pyplot`, or says how to install it.

    Call it before any other import from matplotlib.

    Args:
        owner: Name of the class or function that draws, for the error.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{owner}: figures need matplotlib, which is not installed. Install it with "
            '`pip install "keras-spiking[viz]"`.'
        ) from error
    return plt


def blue() -> str:
    """The first colour, lighter where text is light: on a dark background."""
    from matplotlib import rcParams
    from matplotlib.colors import to_rgb

    is_dark = sum(to_rgb(rcParams["text.color"])) > 1.5
    return COLOURS[4] if is_dark else COLOURS[0]
