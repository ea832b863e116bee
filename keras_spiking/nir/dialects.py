"""What NIR leaves open, as each simulator takes it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """How a simulator reads a graph.

    Attributes:
        tried_with: The version that this was tried with.
        resistance: The `r` of `IF` with which a unit of input adds 1 to the voltage in a step:
            `"1"`, or `"1/dt"` with `dt` in seconds.
        leaky: How it steps `LI`: `"euler"`, by `v += dt / tau * (r * I - v)`; `"steps"`, by
            `v = exp(-1 / tau) * v + I`, with `tau` in steps; or None, if it does not read `LI`.
        only_plain: Whether it needs convolutions without groups and dilation, sums in place of
            averages in pooling, and no `Scale`.
        has_conv1d: Whether it reads `Conv1d`.
        has_branches: Whether several edges may lead to a node.
        flatten_from: The `start_dim` of `Flatten` that flattens a whole sample.
        flattens_channels_last: Whether `Flatten` gives the order of Keras: height, width, channels.
        differs: What it computes otherwise than the Keras model.
    """

    tried_with: str
    resistance: str
    leaky: str | None
    differs: str
    only_plain: bool = True
    has_conv1d: bool = False
    has_branches: bool = True
    flatten_from: int = 0
    flattens_channels_last: bool = False


_SINGLE = "A neuron fires at most once in a step"
_ORDER = (
    "Where branches meet, nodes may run before their inputs: sort execution_order of the imported "
    "network so that each node comes behind those that lead to it."
)

DIALECTS = {
    "generic": Dialect(
        tried_with="nir 1.0.8",
        resistance="1/dt",
        leaky="euler",
        differs="Nothing, if IF subtracts its threshold, may fire several times in a step, and "
        "starts from zero.",
        only_plain=False,
        has_conv1d=True,
    ),
    "sinabs": Dialect(
        tried_with="sinabs 3.1.3",
        resistance="1",
        leaky="steps",
        differs="Voltages stop at -threshold. After the import, set min_v_mem = None in each "
        f"IAFSqueeze; then nothing differs. {_ORDER}",
    ),
    "snntorch": Dialect(
        tried_with="snntorch 1.0.0",
        resistance="1",
        leaky=None,
        differs=f"{_SINGLE}, only above its threshold, and leaks a tenth of its voltage. After the "
        "import, set beta = torch.tensor(1.0) and init_hidden = True in each Leaky.",
        has_conv1d=True,
        flatten_from=1,
    ),
    "norse": Dialect(
        tried_with="norse 1.1.0",
        resistance="1",
        leaky=None,
        differs=f"{_SINGLE}, only above its threshold, and its voltage returns to zero, so that "
        f"what is above the threshold is lost. {_ORDER}",
        flatten_from=1,
    ),
    "spikingjelly": Dialect(
        tried_with="spikingjelly 2.0.0",
        resistance="1/dt",
        leaky=None,
        differs=f"{_SINGLE}, and its voltage returns to zero. After the import with this dt, set "
        "v_reset = None in each IFNode; then the voltage is reduced by the threshold.",
        has_conv1d=True,
    ),
    "spyx": Dialect(
        tried_with="spyx 1.0.0",
        resistance="1",
        leaky=None,
        differs=f"{_SINGLE}, only above its threshold, and one step late in each layer. Inputs "
        "are channels-last.",
        has_branches=False,
        flattens_channels_last=True,
    ),
}
