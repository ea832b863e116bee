"""How the modules appear to what records models: `torch.fx` and `torch.jit`."""

from typing import Any

import torch


class Recorded(torch.nn.Module):
    """Base of all modules: one node for `torch.fx`, and an error for `torch.jit.script`."""

    def _as_node(self, inputs: torch.Tensor, **arguments: Any) -> Any:
        """This call as a node of the graph that `torch.fx` is making, as for a torch.nn.Linear."""
        path = inputs.tracer.path_of_module(self)
        if not path:
            raise TypeError(
                f"{type(self).__name__}: torch.fx takes this module as a part of a model, and "
                "received it alone. Put it into one, as in torch.nn.Sequential(module)."
            )
        given = {name: value for name, value in arguments.items() if value is not None}
        return inputs.tracer.create_proxy("call_module", path, (inputs,), given)

    def __prepare_scriptable__(self) -> Any:
        raise TypeError(
            f"{type(self).__name__}: torch.jit.script does not take this module. Use "
            "torch.export.export, torch.compile or torch.jit.trace."
        )
