"""The report page: what is on it, that it is sound HTML without references, and, in a browser, that it can be read."""

import html
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from figures import _svg, style
from studies import _html
from studies._html import Drawing, Section, page
from studies._study import Report, Table

VOID = {"meta", "link", "br", "hr", "img", "input"}
NASTY = '<script>alert("1 & 2")</script> isn\'t <b>bold</b>'
FACTS = [("date", "1 May 2026, 12:00 UTC"), ("versions", "Python 3.11.9, numpy 2.0.1"), ("code", "``0123abcd``")]


def figure(slope=1.0, panels=2):
    with style.style():
        drawn = Figure(figsize=(7.0, 3.0), layout="constrained")
        for index, axes in enumerate(np.ravel(drawn.subplots(1, panels))):
            axes.loglog([1, 10, 100], [1, 10**slope, 100**slope], "o-", label="SRK & DDPM")
            axes.fill_between([1, 100], [1, 1], [2, 3], alpha=0.3)
            axes.set(xlabel="dimension $d^{1/2}$", ylabel="KL <nats>", title=f"panel {index}")
        drawn.suptitle("KL against d")
        drawn.legend(loc="outside lower center")
    return drawn


def drawing(name, prefix, slope=1.0):
    drawn = figure(slope)
    return Drawing(name, _svg.svg(drawn, prefix, _svg.described(drawn)), _svg.caption(drawn), _svg.width(drawn))


@cache
def sections():
    """Sections as rich as a run makes them: nasty text, long tables, wide tables, every state."""
    columns = range(14)
    wide = Table("Wide", [f"column {n}" for n in columns], [[f"{n}.{k} ± 0.001" for n in columns] for k in range(3)])
    long = Table("Exponents", ["family", "scheme", "a [95%]"], [[f"family {k}", NASTY, f"-{k}e-03"] for k in range(40)])
    verdict = ["KL falls as K^-2.0 [1.9, 2.1]. It's so (arXiv 2410.04760).", NASTY, "K* ~ d^{1/2}/ε with q_T and x_0."]
    return [
        Section(
            "score_error",
            "Does it hold, and how far.",
            method="One paragraph with ``code``.\n\nAnother.",
            state=_html.DONE,
            report=Report([wide, long], verdict),
            drawings=[drawing("score_error_growth", "f1-0"), drawing("score_error_steps", "f1-1", 2.0)],
            cost="40 cells · none failed · 3 s of processor time",
            settings=[("seeds", "seed 7"), ("schemes", ", ".join(["srk_third_point_1"] * 9)), ("x" * 9, "y" * 200)],
            code="fedcba9876543210",
            command="python -m studies.score_error --quick",
        ),
        Section(
            "tv_distance",
            NASTY,
            state=_html.INCOMPLETE,
            problems=[f"failed: cell {k}: {NASTY}" for k in range(8)],
            report=Report([], ["Half a verdict."]),
        ),
        Section("overhead", "What it costs.", state=_html.FAILED, problems=["ValueError: no"]),
        Section("schedules", "Which is best.", state=_html.INTERRUPTED, problems=["interrupted"]),
        Section("path_scaling", "Is the bound tight.", state=_html.WAITING),
    ]


class Reader(HTMLParser):
    """Checks that tags are balanced, and collects what is on a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.used, self.text, self.tags = [], [], [], [], {}, []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)
            if tag in ("p", "td", "th", "li", "h3", "dd", "dt", "summary", "figcaption", "span"):
                self.text.setdefault(tag, []).append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            elif name in ("href", "src", "xlink:href"):
                self.links.append((tag, value))
            self.used += re.findall(r"url\(#([^)]+)\)", value or "")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in self.open:
            if tag in self.text:
                self.text[tag][-1] += data

    def count(self, tag):
        return sum(each == tag for each, _ in self.tags)


def plain(text):
    """Undo what typesetting does to text, on both sides of a comparison."""
    text = " ".join(text.split()).translate(str.maketrans("\u00a0−’‘", " -''", "\u2060"))
    text = re.sub(r"\b(\d[\d.]*)e\+?(-?)0*(\d+)\b", r"\1·10\2\3", text)
    return re.sub(r"[\^_{}`]|\barXiv.|(?<![\d.])1·(?=10)", "", text)


@pytest.fixture(scope="module")
def text():
    return page(sections(), FACTS, "5 studies.")


@pytest.fixture(scope="module")
def read(text):
    return Reader(text)


def test_the_page_needs_nothing_but_itself(text, read):
    assert all(tag == "a" for tag, link in read.links if link.startswith("http"))
    outside = [link for _, link in read.links if not link.startswith(("#", "data:"))]
    assert outside
    assert all(link.startswith("https://arxiv.org/abs/") for link in outside)
    assert "http" not in re.sub(r'href="https://arxiv.org/abs/[\d.]+"', "", text)
    assert "@import" not in text
    assert not {"script", "iframe", "img", "object", "embed", "base", "form"} & {tag for tag, _ in read.tags}
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert re.findall(r"url\((?!#)", text) == []


def test_ids_are_unique_and_every_reference_is_met(read):
    assert len(set(read.ids)) == len(read.ids)
    inside = [link[1:] for _, link in read.links if link.startswith("#")]
    assert len(inside) > 20
    assert set(inside + read.used) <= set(read.ids)


def test_every_figure_is_there_as_svg_with_words_for_it(read):
    images = [attributes for tag, attributes in read.tags if tag == "svg"]
    assert len(images) == 2
    for image in images:
        assert image["viewbox"] == "0 0 504 216"
        assert "width" not in image
        assert image["aria-label"] == (
            "KL against d. KL <nats> against dimension d^1/2. Panels: panel 0; panel 1. Drawn: SRK & DDPM."
        )
    assert plain(read.text["figcaption"][0]) == "KL <nats> against dimension d1/2. scoreerrorgrowth"


def test_every_sentence_and_every_cell_is_there_and_is_text(read):
    for section in sections():
        for sentence in section.report.verdict:
            assert plain(sentence) in map(plain, read.text["p"])
        cells = [plain(cell) for table in section.report.tables for row in (table.header, *table.rows) for cell in row]
        assert set(cells) <= set(map(plain, read.text["td"] + read.text["th"]))
    assert read.count("td") + read.count("th") == 14 * 4 + 3 * 41 + 2 * len(sections())
    assert read.count("b") == 0
    titles = read.text["h3"] + read.text["summary"]
    assert any("Wide" in title for title in titles)
    assert any("Exponents" in title and "40 rows" in title for title in titles)


def test_the_head_has_a_line_for_each_study(read):
    found = [plain(cell) for cell in read.text["td"][: len(sections())]]
    assert found[0] == "KL falls as K-2.0 [1.9, 2.1]."
    assert found[2:] == ["No verdict.", "No verdict.", "Not run yet."]
    assert read.text["th"][0].strip() == "Score error"
    assert read.text["th"][1].strip() == "TV distance incomplete"
    assert {"Python 3.11.9, numpy 2.0.1", "seed 7", "fedcba9876543210"} <= set(read.text["dd"])


def test_what_went_wrong_is_said_in_red(text, read):
    marked = [attributes["class"] for tag, attributes in read.tags if tag == "span" and "state" in attributes["class"]]
    assert marked.count("state bad") == 3 * 3  # in the list, the head and the section
    assert marked.count("state") == 3
    assert sum(attributes.get("class") == "problems" for _, attributes in read.tags) == 3
    failures = [line for line in read.text["li"] if line.startswith("failed: cell")]
    assert len(failures) == 5
    assert "and 3 more" in read.text["li"]
    assert plain(failures[0]) == plain(f"failed: cell 0: {NASTY}")
    assert re.search(r"\.problems \{[^}]*color: var\(--bad\)", text)
    assert html.escape("<script>") in text


def test_mathematics_is_set(text):
    assert "K<sup>−2.0</sup> [1.9,\u00a02.1]. It’s so" in text
    assert "K*\u00a0~\u00a0d<sup>1/2</sup>/\u2060ε with q<sub>T</sub> and x<sub>0</sub>." in text
    assert ">−39·10<sup>−3</sup></td>" in text
    assert "Does it hold, and how far?" in text
    assert "What it costs." in text
    assert "srk_third_point_1" in text
    assert _html._prose(
        "2.1e+06–3e+07 steps, 1e-20 nats, d^0.7–0.8, σ_t², K^−(1 to 2), the theorems' 'd', |KL_0| ≤ 1"
    ) == (
        "2.1·10<sup>6</sup>–3·10<sup>7</sup> steps, 10<sup>−20</sup> nats, d<sup>0.7–0.8</sup>, σ<sub>t</sub>², "
        "K<sup>−1 to 2</sup>, the theorems’ ‘d’, |\u2060KL<sub>0</sub>\u2060|\u2060\u00a0≤\u00a01"
    )


def test_the_same_sections_give_the_same_page(text):
    sections.cache_clear()  # figures are drawn anew
    assert page(sections(), FACTS, "5 studies.") == text
    assert page(sections()[::-1], FACTS, "5 studies.") != text


def test_a_page_of_nothing_is_a_page():
    assert Reader(page([], [], "")).count("h1") == 1


def test_svg_keeps_what_is_drawn():
    """As many marks as Matplotlib writes, at the same places to a hundredth of a point, and no ids without a use."""
    drawn = _svg.svg(figure(), "here", "words")
    tree = xml.etree.ElementTree.fromstring(drawn)
    assert tree.get("viewBox") == "0 0 504 216"
    ids = [each.get("id") for each in tree.iter() if each.get("id")]
    assert ids
    assert all(f"#{name}" in drawn for name in ids)
    markers = [each for each in tree.iter("use") if each.get("x") and "fill:#1f77b4" in (each.get("style") or "")]
    assert len(markers) == 2 * 3 + 2  # the legend has two
    places = [(float(each.get("x")), float(each.get("y"))) for each in markers[:3]]
    steps = np.diff(places, axis=0)
    np.testing.assert_allclose(steps[0], steps[1], atol=0.02)  # equal ratios are equal lengths on logarithmic axes
    assert "metadata" not in drawn
    assert "DejaVu" not in drawn


def test_a_caption_says_what_is_on_the_axes():
    drawn = Figure()
    assert _svg.caption(drawn) == ""
    grid = drawn.subplots(2, 2, sharex=True)
    assert _svg.caption(drawn) == ""
    grid[0, 0].set(ylabel="time", title="left")
    grid[1, 0].set(ylabel="overhead", xlabel="$c$")
    grid[1, 1].set(xlabel="$c$")
    assert _svg.caption(drawn) == "Time, overhead against c."
    drawn = Figure()
    left, right = drawn.subplots(1, 2)
    left.set(ylabel="time", title="left")
    right.set(ylabel="overhead", xlabel=r"$\mathrm{d}^{1/2}$")
    assert _svg.caption(drawn) == "Time; overhead against d^1/2."
    left.set(xlabel="$c$")
    assert _svg.caption(drawn) == "Time against c; overhead against d^1/2."
    right.set(ylabel="time")
    assert _svg.caption(drawn) == "Time against c and d^1/2."
    left.plot([1], [1], label="$K^{-2}$")
    left.legend()
    assert _svg.described(drawn) == "Time against c and d^1/2. Panels: left. Drawn: K^-2."
    drawn = Figure()
    for axes in drawn.subplots(1, 2):
        axes.set(xlabel="")
    drawn.supxlabel("factor")
    assert _svg.caption(drawn) == "Factor."


# In a browser ------------------------------------------------------------------------------------------------------

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
browser = pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")
PROBE = """
<script>
addEventListener("load", () => {
  const all = selector => [...document.querySelectorAll(selector)], root = document.documentElement;
  const body = all("p, td, th, dd, li, figcaption, summary");
  const free = body.filter(e => !e.closest(".scroll, details, nav"));
  parent.postMessage({
    name: NAME, width: innerWidth, page: root.scrollWidth,
    inside: all(".scroll").filter(e => e.scrollWidth > e.clientWidth).length,
    scale: Math.min(...all("svg").map(e => e.getBoundingClientRect().width / e.viewBox.baseVal.width)),
    text: Math.min(...body.map(e => parseFloat(getComputedStyle(e).fontSize))),
    outside: free.filter(e => e.getBoundingClientRect().right > innerWidth).length,
  }, "*");
});
</script></body>"""
FRAMES = """<!DOCTYPE html><body style="margin:0"><script>
const heard = {};
addEventListener("message", e => { heard[e.data.name] = e.data; document.body.dataset.heard = JSON.stringify(heard); });
</script>"""


def chromium(place, *arguments):
    """Run the browser on pages of this machine; returns what it prints."""
    quiet = [f"--disable-{what}" for what in ("gpu", "quic", "background-networking", "component-update", "sync")]
    quiet += ["--no-first-run", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={place / 'profile'}"]
    run = [BROWSER, "--headless", *quiet, "--virtual-time-budget=3000", *arguments]
    return subprocess.run(run, capture_output=True, text=True, timeout=60, check=True).stdout


def frame(path, width, height):
    """A frame as wide as a phone: the browser's own window cannot be so narrow."""
    return f'<iframe src="{path.as_uri()}" style="width:{width}px;height:{height}px;border:0;display:block"></iframe>'


@browser
def test_nothing_scrolls_sideways_on_a_phone_but_figures_and_tables(text, tmp_path):
    broken = text.replace("</header>", '<p style="width: 500px">Too wide.</p></header>')
    frames = []
    for name, content in {"page": text, "broken": broken, "desk": text}.items():
        path = tmp_path / f"{name}.html"
        path.write_text(content.replace("</body>", PROBE.replace("NAME", json.dumps(name))), encoding="utf-8")
        frames.append(frame(path, 1200 if name == "desk" else 360, 800))
    (tmp_path / "frames.html").write_text(FRAMES + "".join(frames))
    dump = chromium(tmp_path, "--dump-dom", (tmp_path / "frames.html").as_uri())
    heard = json.loads(html.unescape(re.search(r'data-heard="([^"]*)"', dump)[1]))
    phone, wrong, desk = heard["page"], heard["broken"], heard["desk"]
    assert phone["width"] == phone["page"] == 360
    assert phone["outside"] == 0
    assert phone["inside"] >= 3  # two figures and a table are wider, each in a box of its own
    assert phone["text"] >= 12.0  # pixels
    assert 7.0 * phone["scale"] >= 8.0  # pixels, of the smallest text in figures
    assert wrong["page"] > 360  # the probe sees what it looks for
    assert desk["width"] == desk["page"] == 1200
    assert desk["scale"] >= 1.3
    assert desk["outside"] == 0


@browser
@pytest.mark.parametrize(("width", "height"), [(360, 800), (1200, 900)])
def test_a_screenshot_shows_a_page(text, tmp_path, width, height):
    shots = {}
    for name, content in {"page": text, "blank": "<!DOCTYPE html><body></body>"}.items():
        (tmp_path / f"{name}.html").write_text(content, encoding="utf-8")
        shell = tmp_path / f"{name}_frame.html"
        shell.write_text(f'<!DOCTYPE html><body style="margin:0">{frame(tmp_path / f"{name}.html", width, height)}')
        image = tmp_path / f"{name}.png"
        chromium(tmp_path, f"--screenshot={image}", "--window-size=1300,1000", shell.as_uri())
        shots[name] = imread(image)[:height, :width, :3]
    shot, blank = shots["page"], shots["blank"]
    assert shot.shape == (height, width, 3)
    assert blank.std() == 0.0  # what the figures below would be if nothing were shown
    paper = np.median(shot.reshape(-1, 3), axis=0)
    ink = np.abs(shot - paper).max(axis=2) > 0.3
    assert paper.min() > 0.9  # light
    assert 0.01 < ink.mean() < 0.4
    assert (ink.any(axis=1)).mean() > 0.3  # lines of text all the way down
    assert ink[:, : width // 2].any()
    assert ink[: height // 2].any()
    reds = (shot[..., 0] - shot[..., 1:].max(axis=2) > 0.3).sum()
    assert reds > 50  # "incomplete", "failed"
