"""Docstrings as Keras writes them: single backticks mark code, and link to it where it is ours."""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole


class Name(SphinxRole):
    """Code that links to the object of that name in the reference, if there is one."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        literal = nodes.literal("", self.text, classes=["xref", "py"])
        if not re.fullmatch(r"[A-Za-z_][\w.]*", self.text):
            return [nodes.literal("", self.text)], []
        reference = addnodes.pending_xref(
            "",
            literal,
            refdomain="py",
            reftype="obj",
            reftarget=self.text,
            refdoc=self.env.docname,
            refspecific=True,
            is_name=True,
        )
        reference["py:module"] = self.env.ref_context.get("py:module")
        reference["py:class"] = self.env.ref_context.get("py:class")
        return [reference], []


def leave_unknown(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Shows names that are not ours, such as those of arguments, without a link or a warning."""
    if not node.get("is_name"):
        return None
    return nodes.literal("", content.astext())


def without_any(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Leaves `Any` out of signatures, for it says nothing: what an argument takes is in words."""
    if signature is None:
        return None
    signature = re.sub(
        r": (?:~?typing\.)?Any\b(?! \|)( = )?", lambda m: "=" if m[1] else "", signature
    )
    if returns and re.fullmatch(r"(?:~?typing\.)?Any", returns):
        returns = None
    return signature, returns


def mark_stars(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Keeps `**kwargs` among the names of arguments from starting bold type."""
    lines[:] = [
        re.sub(r"(?<![\\`*])(\*\*?)(?=kwargs\b|args\b)", lambda m: "\\*" * len(m[1]), line)
        for line in lines
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the role, and what tidies up docstrings and signatures."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_role("name", Name())
    app.connect("missing-reference", leave_unknown)
    app.connect("autodoc-process-signature", without_any)
    app.connect("autodoc-process-docstring", mark_stars)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
