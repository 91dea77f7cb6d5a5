"""The report of all studies as one HTML page: no script, nothing from outside; citations are its only links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from studies._html_style import STYLE
from studies._study import Report, Table

DONE, INCOMPLETE, FAILED, INTERRUPTED, WAITING = "done", "incomplete", "failed", "interrupted", "not run yet"
LEFT_OUT = "left out"  # for want of a package
_BAD = (INCOMPLETE, FAILED, INTERRUPTED)
_LONGEST = 20  # rows of a table that is shown unfolded
_LINES = 5  # reasons of failures that are shown
_TITLE = "What convergence theory says of SDE diffusion samplers, settled by exact numbers"
_CAPITALS = {"tv": "TV", "kl": "KL", "srk": "SRK", "ddpm": "DDPM"}
_SETTING = (
    (r"(?<!\w)&#x27;(?=\w)", "‘"),
    (r"&#x27;", "’"),
    (r"\b(\d+(?:\.\d+)?)e\+?(-?)0*(\d+)\b", r"\1·10^{\2\3}"),
    (r"(?<![\d.])1·(?=10\^)", ""),
    (r"(?<![\w.)\]])-(?=[\d.∞])|(?<=\^)-|(?<=\^\{)-", "−"),
    (r"(?<=\S) (=|≤|≥|&lt;|&gt;|≈|~|±|×|∈) (?=\S)", "\u00a0\\1\u00a0"),
    (r"/(?=[α-ω√(])", "/\u2060"),
    (r"\[([^][\s]+), ([^][\s]+)\]", "[\\1,\u00a0\\2]"),
    (r"\^\{([^{}]*)\}", r"<sup>\1</sup>"),
    (r"\^([−+]?)\(([^()]*)\)", r"<sup>\1\2</sup>"),
    (r"\^([−+-]?(?:\d+(?:\.\d+)?(?:[–-]\d+(?:\.\d+)?)?|[A-Za-zα-ω]+|\*))", r"<sup>\1</sup>"),
    (r"\|([^|\s]+)\|", "|\u2060\\1\u2060|\u2060"),
    (r"\b(KL|TV|[A-Za-zα-ω])_([A-Za-zα-ω\d])(?![A-Za-z\d_])", r"\1<sub>\2</sub>"),
    (r"\barXiv[: ](\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>'),
)


@dataclass(frozen=True)
class Drawing:
    """A figure: the name of its files, its SVG, what stands under it, and its width in points."""

    name: str
    svg: str
    caption: str
    width: float


@dataclass(frozen=True)
class Section:
    """What the page shows of one study.

    Attributes
    ----------
    name, question, method : of the module; the first line of its docstring, and the rest.
    state : ``DONE`` or why not.
    problems : a line for each thing that went wrong.
    report, drawings : what was found.
    cost : what the run took, a line.
    settings : options, seeds and the like, by name.
    code : version of the code that the results depend on.
    command : that runs the study alone.
    """

    name: str
    question: str
    method: str = ""
    state: str = WAITING
    problems: Sequence[str] = ()
    report: Report = Report((), ())  # noqa: RUF009, it is frozen
    drawings: Sequence[Drawing] = ()
    cost: str = ""
    settings: Sequence[tuple[str, str]] = ()
    code: str = ""
    command: str = ""

    @property
    def title(self) -> str:
        """The name in words."""
        words = self.name.split("_")
        first, *others = (_CAPITALS.get(word, word) for word in words)
        return " ".join([first[0].upper() + first[1:], *others])

    @property
    def sentence(self) -> str:
        """The verdict's first sentence, or what stands in its place."""
        if self.report.verdict:
            return re.split(r"(?<=[.!?])\s+(?=[^\W\d_a-zα-ω])", _spaced(self.report.verdict[0]))[0]
        return "Not run yet." if self.state == WAITING else "No verdict."


def page(sections: Sequence[Section], facts: Sequence[tuple[str, str]], lead: str) -> str:
    """Return the page.

    Parameters
    ----------
    sections : in the order of the page.
    facts : what all results were made with, by name.
    lead : a sentence or two under the title.
    """
    listed = "\n".join(f'<li><a href="#{s.name}">{escape(s.title)} {_state(s)}</a></li>' for s in sections)
    found = "\n".join(
        f'<tr><th scope="row"><a href="#{s.name}">{escape(s.title)}</a> {_state(s)}</th>'
        f'<td class="{"found" if s.report.verdict else "pending"}">{_prose(s.sentence)}</td></tr>'
        for s in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>srkverify: report</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<div class="page">
<nav aria-label="Studies">
<p><a href="#top">Report</a></p>
<ol>
{listed}
</ol>
</nav>
<main id="top">
<header>
<p class="overline">srkverify · report</p>
<h1>{escape(_TITLE)}</h1>
<p>{_prose(lead)}</p>
<table class="findings" aria-label="What was found">
<tbody>
{found}
</tbody>
</table>
{_pairs(facts, "facts")}
</header>
{"".join(map(_section, sections))}
<footer>
<p>The claim under examination: Yuchen Wu, Yuxin Chen, Yuting Wei, <cite>Stochastic Runge–Kutta Methods: Provable
Acceleration of Diffusion Models</cite>, {_prose("arXiv 2410.04760")} (2024).</p>
</footer>
</main>
</div>
</body>
</html>
"""


def some(problems: Sequence[str]) -> list[str]:
    """Return the first problems, and how many more there are."""
    left = len(problems) - _LINES
    return [*problems[:_LINES], *([f"and {left} more"] if left > 0 else [])]


def _section(section: Section) -> str:
    parts = [
        f'<section id="{section.name}" aria-labelledby="{section.name}-title">',
        f'<p class="overline"><code>studies.{section.name}</code> {_state(section)}</p>',
        f'<h2 id="{section.name}-title">{escape(section.title)}</h2>',
        f'<p class="question">{_prose(_asked(section.question))}</p>',
        _problems(section),
        _verdict(section.report.verdict),
        *(_figure(drawing) for drawing in section.drawings),
        *(_table(table) for table in section.report.tables),
        _more(section),
        "</section>\n",
    ]
    return "\n".join(part for part in parts if part)


def _problems(section: Section) -> str:
    if not section.problems:
        return ""
    words = {
        FAILED: "This study failed: it has no result.",
        LEFT_OUT: "This study was left out.",
        INCOMPLETE: "This study is incomplete: what follows is made of the cells that are done.",
        INTERRUPTED: "This study was interrupted: what follows is made of the cells that are done.",
    }
    items = "".join(f"<li>{escape(_spaced(line))}</li>" for line in some(section.problems))
    return f'<div class="problems" role="note"><p>{words.get(section.state, "")}</p><ul>{items}</ul></div>'


def _verdict(verdict: Sequence[str]) -> str:
    if not verdict:
        return ""
    sentences = "\n".join(f"<p>{_prose(sentence)}</p>" for sentence in verdict)
    return f'<div class="verdict">\n<p class="label">Verdict</p>\n{sentences}\n</div>'


def _figure(drawing: Drawing) -> str:
    return (
        f'<figure>\n<div class="card scroll" tabindex="0" style="--width: {drawing.width:g}">{drawing.svg}</div>\n'
        f"<figcaption>{_prose(drawing.caption)} <code>{escape(drawing.name)}</code></figcaption>\n</figure>"
    )


def _table(table: Table) -> str:
    def cell(text: str, column: int, head: bool) -> str:
        kind = "th" if head or column == 0 < table.left else "td"
        scope = ' scope="col"' if head else ' scope="row"' if kind == "th" else ""
        name = ' class="name"' if column < table.left else ""
        return f"<{kind}{scope}{name}>{_prose(text)}</{kind}>"

    def line(cells: Sequence[str], head: bool = False) -> str:
        return f"<tr>{''.join(cell(text, column, head) for column, text in enumerate(cells))}</tr>"

    body = "\n".join(line(row) for row in table.rows)
    content = (
        f'<div class="scroll" tabindex="0"><table class="numbers">\n<thead>{line(table.header, True)}</thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )
    title = _prose(table.title or "Numbers")
    if len(table.rows) > _LONGEST:
        summary = f"<summary>{title} <small>{len(table.rows)} rows</small></summary>"
        return f'<details class="table">{summary}\n{content}\n</details>'
    return f'<div class="table"><h3>{title}</h3>\n{content}\n</div>'


def _more(section: Section) -> str:
    """Return the foot of a section: cost, command, and folded method and settings."""
    if section.state == WAITING and not section.command:
        return ""
    code = [("code", f"``{section.code}``")] if section.code else []
    folded = ""
    for title, content in (
        ("Method", "".join(f"<p>{_prose(part)}</p>" for part in _paragraphs(section.method))),
        ("Settings and seeds", _pairs([*section.settings, *code], "settings")),
    ):
        if content:
            folded += f"<details><summary>{title}</summary>\n{content}\n</details>\n"
    cost = f'<p class="cost">{_prose(section.cost)}</p>\n' if section.cost else ""
    command = f'<pre class="command"><code>{escape(section.command)}</code></pre>\n' if section.command else ""
    return f'<div class="more">\n{cost}{command}{folded}</div>'


def _pairs(pairs: Iterable[tuple[str, str]], kind: str) -> str:
    items = "\n".join(f"<dt>{escape(name)}</dt><dd>{_prose(value)}</dd>" for name, value in pairs)
    return f'<dl class="{kind}">\n{items}\n</dl>' if items else ""


def _state(section: Section) -> str:
    if section.state == DONE:
        return ""
    return f'<span class="state{" bad" if section.state in _BAD else ""}">{section.state}</span>'


def _asked(question: str) -> str:
    """Return a question with its mark, which docstrings leave out."""
    text = _spaced(question)
    return f"{text[:-1]}?" if re.match(r"(Are|Can|Do|Does|Is)\b.*\.$", text) else text


def _paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", text.strip()) if part]


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _prose(text: str) -> str:
    """Return text as HTML: escaped, citations as links, ``code`` as such, and set as mathematics is."""
    parts = re.split(r"``([^`]+)``", escape(_spaced(text)))
    return "".join(f"<code>{part}</code>" if index % 2 else _typeset(part) for index, part in enumerate(parts))


def _typeset(text: str) -> str:
    """Set exponents, indices, minus signs and apostrophes, and keep what belongs together on a line; text is HTML."""
    for pattern, instead in _SETTING:
        text = re.sub(pattern, instead, text)
    return text
