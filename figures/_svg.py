"""A figure as SVG to be set into a page: small, without references to anything outside, its ids its own.

Text becomes outlines, which look the same wherever the page is opened; what it says goes into :func:`described`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from html import escape
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.figure import Figure

from figures import style

_POINTS = 72.0  # an inch
_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")
_TEX = (  # what is taken out of labels, in this order
    (r"\\(?:mathrm|mathdefault|mathbf|mathit|text)\b", ""),
    (r"\\[,;:! ]", " "),
    (r"\\([a-zA-Z]+)", r"\1"),
    (r"[${}]", ""),
)


def svg(figure: Figure, name: str, label: str) -> str:
    """Return ``figure`` as one ``<svg>`` element, without a size of its own, for HTML.

    Parameters
    ----------
    name : begins every id, so that figures of different names share none.
    label : what a reader who does not see the figure is told.
    """
    buffer = io.BytesIO()
    with style.style(), rc_context({"svg.fonttype": "path", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    used = {reference for element in root.iter() for reference in _references(element)}
    ids = (each.get("id") for each in root.iter())
    new = {old: f"{name}-{number}" for number, old in enumerate((each for each in ids if each in used), 1)}
    inside = "".join(part for child in root for part in _written(child, new))
    shape = f'viewBox="{root.get("viewBox")}" stroke-linejoin="round" stroke-linecap="butt"'
    return f'<svg {shape} role="img" aria-label="{escape(label)}">{inside}</svg>'


def width(figure: Figure) -> float:
    """Return the width of a figure in points, in which its text is 7 to 8 high."""
    return float(figure.get_size_inches()[0]) * _POINTS


def caption(figure: Figure) -> str:
    """Return what stands on the axes of a figure."""
    across: dict[str, dict[str, None]] = {}  # the labels across of each label up
    for axes in figure.axes:
        rows, columns = (group.get_siblings(axes) for group in (axes.get_shared_y_axes(), axes.get_shared_x_axes()))
        up = _label(axes.get_ylabel(), *(each.get_ylabel() for each in rows), figure.get_supylabel())
        own = _label(axes.get_xlabel(), *(each.get_xlabel() for each in columns), figure.get_supxlabel())
        across.setdefault(up, {}).update({own: None} if own else {})
    if len(across) > 1:
        across.pop("", None)  # panels without a label of their own go with their neighbours
    ups: dict[tuple[str, ...], list[str]] = {}
    for up, labels in across.items():
        ups.setdefault(tuple(labels), []).append(up)
    parts = [(", ".join(filter(None, names)), " and ".join(labels)) for labels, names in ups.items()]
    sentence = "; ".join(" against ".join(filter(None, part)) for part in parts)
    return f"{_begun(sentence)}." if sentence else ""


def _label(*labels: str) -> str:
    """Return the label of an axis, the first there is: its own, that of a panel that shares it, the figure's."""
    return _plain(next(filter(None, labels), ""))


def described(figure: Figure) -> str:
    """Return what a figure says in words: its title, its axes, panels and legends."""
    heading = _begun(_plain(figure.get_suptitle()))
    titles = [_plain(each.get_title(loc=place)) for each in figure.axes for place in ("left", "center", "right")]
    legends = [*figure.legends, *filter(None, (axes.get_legend() for axes in figure.axes))]
    entries = [_plain(text.get_text()) for legend in legends for text in legend.get_texts()]
    lists = {"Panels": dict.fromkeys(filter(None, titles)), "Drawn": dict.fromkeys(filter(None, entries))}
    said = [f"{heading}." if heading else "", caption(figure)]
    return " ".join(filter(None, [*said, *(f"{name}: {'; '.join(items)}." for name, items in lists.items() if items)]))


def _begun(sentence: str) -> str:
    """Begin a sentence with a capital, unless it begins with a symbol."""
    return sentence[0].upper() + sentence[1:] if re.match(r"[a-z]{2}", sentence) else sentence


def _plain(label: str) -> str:
    """Return a label as plain text."""
    if "$" in label:
        for pattern, instead in _TEX:
            label = re.sub(pattern, instead, label)
    return " ".join(label.split())


def _references(element: ElementTree.Element) -> Iterator[str]:
    for name, value in element.items():
        if name.endswith("href") and value.startswith("#"):
            yield value[1:]
        yield from re.findall(r"url\(#([^)]+)\)", value)


def _written(element: ElementTree.Element, ids: dict[str, str]) -> Iterable[str]:
    """Yield an element for HTML: no namespaces, no ids that nothing refers to, numbers to a hundredth of a point."""
    tag = element.tag.split("}")[-1]
    if tag in ("metadata", "style", "title"):
        return
    inside = "".join(part for child in element for part in _written(child, ids))
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in _attributes(element, ids))
    if tag in ("g", "defs") and not inside:
        return
    if tag == "g" and not attributes:  # it did nothing but bear a name
        yield inside
    elif inside or (element.text and element.text.strip()):
        yield f"<{tag}{attributes}>{escape((element.text or '').strip())}{inside}</{tag}>"
    else:
        yield f"<{tag}{attributes}/>"


def _attributes(element: ElementTree.Element, ids: dict[str, str]) -> Iterator[tuple[str, str]]:
    for full, value in element.items():
        name = full.split("}")[-1]
        if name == "id":
            if value in ids:
                yield name, ids[value]
        elif name == "href":
            yield name, f"#{ids[value[1:]]}" if value.startswith("#") else value
        elif name in ("d", "points"):
            yield name, re.sub(r"\s*([a-zA-Z])\s*", r"\1", _rounded(value)).strip()
        elif name in ("x", "y", "width", "height"):
            yield name, _rounded(value)
        elif name == "transform":
            yield name, _NUMBER.sub(lambda found: f"{float(found[0]):.6g}", value)
        else:
            value = re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{ids[found[1]]})", value)
            yield name, re.sub(r"\s*([:;])\s*", r"\1", value)


def _rounded(text: str) -> str:
    return _NUMBER.sub(lambda found: f"{round(float(found[0]), 2):g}" if "." in found[0] else found[0], text)
