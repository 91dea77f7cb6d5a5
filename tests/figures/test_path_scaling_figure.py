from math import inf

import numpy as np
import pytest
from matplotlib.image import imread

from figures import path_scaling, style
from studies._command import write_rows

FAMILIES = ("product_mixture", "diagonal_10", "full_2", "full_50")


def rows(schemes=("ddpm", "srk"), families=FAMILIES):
    return [
        {
            "family": family,
            "scheme": scheme,
            "dimension": d,
            "steps": steps,
            "path_kl": 20.0 * d / steps ** (1 + index),
            "path_error": (0.1 if steps < 100 else 0.4) * 20.0 * d / steps ** (1 + index),
            "marginal_kl": 2.0 * d / steps**2,
            "marginal_error": inf if steps == 64 else 0.2 * d / steps**2,
            "standard_error": 0.2 * d / steps**2,
            "exact_kl": 2.0 * d / steps**2 if family == "product_mixture" else None,
            "exact_error": 1e-9 if family == "product_mixture" else None,
        }
        for family in families
        for index, scheme in enumerate(schemes)
        for d in (4, 16)
        for steps in (16, 64, 256)
    ]


def faces(figure, panel, marker):
    lines = [line for line in figure.axes[panel].lines if line.get_marker() == marker]
    return [line.get_markerfacecolor() for line in lines if len(line.get_xdata(orig=True)) == 1]


@pytest.mark.parametrize("view", path_scaling.VIEWS)
def test_a_panel_a_family_with_labelled_axes(view):
    figure = path_scaling.draw_view(rows(), view)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    titles = [axes.get_title(loc="left").split(",")[0] for axes in panels]
    assert titles == [name.replace("_", " ") for name in FAMILIES]
    assert panels[0].get_ylabel() == view.up
    assert panels[-1].get_xlabel() == view.across
    assert all(axes.get_xscale() == axes.get_yscale() == "log" for axes in panels)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["DDPM", "SRK"]


def test_what_is_known_badly_is_hollow():
    figure = path_scaling.draw_view(rows(), path_scaling.STEPS)
    assert [face == "white" for face in faces(figure, 0, "D")] == [False, False, True]


def test_doubted_outputs_are_hollow_unless_known_exactly():
    figure = path_scaling.draw_view(rows(), path_scaling.OUTPUT)
    assert [face == "white" for face in faces(figure, 0, "o")] == [False, False, True]
    assert [face == "white" for face in faces(figure, 1, "o")] == [False, True, True]


def test_what_is_below_its_error_is_not_drawn():
    faint = rows()
    for row in faint:
        if row["steps"] == 256:
            row["path_error"] = 1.5 * row["path_kl"]
    assert len(faces(path_scaling.draw_view(faint, path_scaling.STEPS), 0, "D")) == 2


def test_a_figure_without_anything_to_show_is_left_out():
    nothing = [{**row, "marginal_kl": -1e-3, "exact_kl": None} for row in rows(families=("full_2",))]
    assert list(path_scaling.draw({"": nothing})) == ["path_scaling_steps", "path_scaling_dimension"]


def test_files_are_written_whole_and_say_the_same_from_csv(tmp_path):
    some = rows(families=FAMILIES[:2])
    with style.style():
        drawn = path_scaling.draw({"": some})
        first = [path for stem, figure in drawn.items() for path in style.save(figure, tmp_path / stem)]
    assert [path.name for path in first] == [
        f"path_scaling_{view}.{kind}" for view in ("steps", "dimension", "output") for kind in ("png", "pdf")
    ]
    before = [path.read_bytes() for path in first]
    image = imread(first[0])
    assert image.shape[1] == 1400  # 7 inches at 200 dpi
    assert len(np.unique(image[::10, ::10].reshape(-1, image.shape[2]), axis=0)) > 20
    assert 0.7 < (image[..., :3] == 1.0).all(axis=2).mean() < 0.99  # mostly paper, but not all
    assert before[1].startswith(b"%PDF")
    write_rows(tmp_path / "path_scaling.csv", [*some, {**some[0], "path_kl": None}])
    assert path_scaling.main([str(tmp_path)]) == 0
    assert [path.read_bytes() for path in first] == before
    assert len(list(tmp_path.iterdir())) == 7


def test_one_row_is_enough_and_none_are_refused():
    assert len(path_scaling.draw({"": rows()[:1]})) == 3
    with pytest.raises(ValueError, match="rows must hold at least one cell"):
        path_scaling.draw({"": [{**rows()[0], "path_kl": None}]})


def test_drawing_again_from_a_directory(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        path_scaling.main([str(tmp_path)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
