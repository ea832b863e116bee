"""What all figures share: their colours, and matplotlib, which is not always installed."""

from typing import Any

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")


def import_pyplot(owner: str) -> Any:
    """Imports `matplotlib.pyplot`, or says how to install it.

    Call it before any other import from matplotlib.

    Args:
        owner: Name of the class whose `plot` needs it, for the error.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{owner}: `plot` needs matplotlib, which is not installed. Install it with "
            '`pip install "keras-spiking[viz]"`.'
        ) from error
    return plt
