"""Tables of text, as lines and as HTML."""

import html
from collections.abc import Container, Iterable, Sequence

_GAP = "  "  # between columns
_NARROWEST = 8  # characters of a cell that is cut

Row = Sequence[str]


def text_lines(
    rows: Sequence[Row], texts: Container[str], max_length: int | None = None
) -> list[str]:
    """Writes each row of a table as a line, with columns as wide as they need.

    Args:
        rows: The headings, then the other rows.
        texts: Headings of the columns that hold words. These are aligned to the left, numbers to
            the right.
        max_length: Characters in a line. Words are cut to fit; numbers are not. Default: as many
            as it takes.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    is_text = [heading in texts for heading in rows[0]]
    if max_length is not None:
        _narrow(widths, is_text, max_length)
    return [_line(row, widths, is_text) for row in rows]


def html_table(rows: Sequence[Row], totals: Row | None = None) -> str:
    """Writes a table for a notebook.

    Args:
        rows: The headings, then the other rows.
        totals: A last row that sums up the others.
    """
    headings, *body = rows
    head = f"<thead>{_html_row(headings, 'th')}</thead>"
    main = f"<tbody>{''.join(_html_row(row, 'td') for row in body)}</tbody>"
    foot = f"<tfoot>{_html_row(totals, 'th')}</tfoot>" if totals else ""
    return f"<table>{head}{main}{foot}</table>"


def _narrow(widths: list[int], is_text: list[bool], max_length: int) -> None:
    """Takes characters from the widest columns of words, one at a time, until a line fits."""
    texts = [index for index, is_word in enumerate(is_text) if is_word]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - max_length
    for _ in range(excess):
        widest = max(texts, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= _NARROWEST:
            return
        widths[widest] -= 1


def _line(row: Row, widths: list[int], is_text: list[bool]) -> str:
    cells = []
    for cell, width, is_word in zip(row, widths, is_text, strict=True):
        if len(cell) > width:
            cell = cell[: width - 1] + "…"
        cells.append(cell.ljust(width) if is_word else cell.rjust(width))
    return _GAP.join(cells).rstrip()


def _html_row(cells: Iterable[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
