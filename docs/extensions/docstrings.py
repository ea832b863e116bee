"""Docstrings as Keras writes them: single backticks mark code, and link to it where it is ours."""

import inspect
import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode


class Name(SphinxRole):
    """Code that links to the object of that name in the reference, if there is one."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        literal = nodes.literal("", self.text)
        if not re.fullmatch(r"[A-Za-z_][\w.]*", self.text):
            return [literal], []
        reference = addnodes.pending_xref(
            "",
            literal,
            refdomain="py",
            reftype="obj",
            reftarget=self.text,
            refdoc=self.env.docname,
            is_name=True,
        )
        for context in ("py:module", "py:class"):
            reference[context] = self.env.ref_context.get(context)
        return [reference], []


def look_further(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Finds what is documented under the package itself; leaves other names, such as `mask`."""
    if not node.get("is_name"):
        return None
    name = node["reftarget"].rpartition(".")[2]
    if node["reftarget"] in (name, f"keras_spiking.layers.{name}"):
        found = env.domains.python_domain.objects.get(f"keras_spiking.{name}")
        if found is not None:
            return make_refnode(
                app.builder, node["refdoc"], found.docname, found.node_id, content, name
            )
    return content


def tidy_signature(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str, returns: str
) -> tuple[str, str | None] | None:
    """Takes a class's arguments from `__init__`, and leaves `Any` out, which says nothing."""
    if signature is None:
        return None
    if what == "class":
        # Keras defines `__new__(cls, *args, **kwargs)`, and Sphinx would show that.
        parameters = [
            # The text tells better than its type what may be a name, a config or a function.
            parameter.replace(annotation=parameter.empty)
            if "dict[str" in str(parameter.annotation)
            else parameter
            for parameter in inspect.signature(thing.__init__).parameters.values()
        ][1:]
        signature = stringify_signature(inspect.Signature(parameters), unqualified_typehints=True)
    signature = re.sub(
        # A tensor or None is `Any | None`.
        r": ~?(?:typing\.)?Any\b(?: \| [\w.~\[\]]+)*( = )?",
        lambda match: "=" if match[1] else "",
        signature,
    )
    if returns and re.fullmatch(r"~?(typing\.)?Any", returns):
        returns = None
    return signature, returns


def tidy_docstring(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Sets headings of examples as such, and keeps `**kwargs` from starting bold type."""
    for index, line in enumerate(lines):
        line = re.sub(r"^Example:$", ".. rubric:: Example", line)
        lines[index] = re.sub(
            r"(?<![\\`*\w])(\*\*?)(?=kwargs\b|args\b)", lambda match: r"\*" * len(match[1]), line
        )


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the role, and what tidies up docstrings and signatures."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_role("name", Name())
    app.connect("missing-reference", look_further)
    app.connect("autodoc-process-signature", tidy_signature)
    app.connect("autodoc-process-docstring", tidy_docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
