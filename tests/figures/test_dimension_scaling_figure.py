import matplotlib.colors
import numpy as np
import pytest
from matplotlib.image import imread

from figures import dimension_scaling, style
from srkverify.schemes import COMPARED
from studies._command import write_rows

FAMILIES = ("product_mixture", "two_point", "rough", "low_rank")


def rows(schemes=("ddpm", "srk"), families=FAMILIES):
    return [
        {
            "family": family,
            "scheme": scheme,
            "dimension": d,
            "epsilon": epsilon,
            "steps": 10,
            "how": "extrapolated" if d > 10 else "exact",
            "nfe": 30 * d**0.5 / epsilon * (1 + index),
            "nfe_low": 29 * d**0.5 / epsilon * (1 + index),
            "nfe_high": 32 * d**0.5 / epsilon * (1 + index),
        }
        for family in families
        for index, scheme in enumerate(schemes)
        for d in (1, 10, 100)
        for epsilon in (0.3, 0.1)
    ]


@pytest.mark.parametrize("view", [dimension_scaling.DIMENSION, dimension_scaling.ACCURACY])
def test_a_panel_a_family_with_labelled_axes(view):
    figure = dimension_scaling.draw_view(rows(), view)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == [name.replace("_", " ") for name in FAMILIES]
    assert panels[0].get_ylabel() == "score evaluations"
    assert panels[-1].get_xlabel() == view.label
    assert all(axes.get_xscale() == axes.get_yscale() == "log" for axes in panels)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["DDPM", "SRK"]


def test_extrapolated_points_are_hollow():
    figure = dimension_scaling.draw_view(rows(), dimension_scaling.DIMENSION)
    points = [line for line in figure.axes[0].lines if line.get_marker() == "D" and len(line.get_xdata(orig=True)) == 1]
    assert [line.get_markerfacecolor() == "white" for line in points] == [False, False, True]


def test_files_are_written_whole_and_say_the_same_from_csv(tmp_path):
    with style.style():
        drawn = dimension_scaling.draw({"": rows()})
        first = [path for stem, figure in drawn.items() for path in style.save(figure, tmp_path / stem)]
    assert [path.name for path in first] == [
        f"dimension_scaling_{view}.{kind}" for view in ("dimension", "accuracy") for kind in ("png", "pdf")
    ]
    before = [path.read_bytes() for path in first]
    image = imread(first[0])
    assert image.shape[1] == 1400  # 7 inches at 200 dpi
    assert len(np.unique(image[::10, ::10].reshape(-1, image.shape[2]), axis=0)) > 20
    assert 0.7 < (image[..., :3] == 1.0).all(axis=2).mean() < 0.99  # mostly paper, but not all
    assert before[1].startswith(b"%PDF")
    write_rows(tmp_path / "dimension_scaling.csv", [*rows(), {**rows()[0], "steps": None}])
    assert dimension_scaling.main([str(tmp_path)]) == 0
    assert [path.read_bytes() for path in first] == before
    assert len(list(tmp_path.iterdir())) == 5


def test_few_rows_are_enough_and_none_are_refused():
    assert len(dimension_scaling.draw({"": rows()[:1]})) == 2
    with pytest.raises(ValueError, match="rows must hold at least one cell"):
        dimension_scaling.draw({"": [{**rows()[0], "steps": None}]})


def test_drawing_again_from_a_directory(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        dimension_scaling.main([str(tmp_path)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_every_scheme_has_a_look_of_its_own():
    looks = [style.look(name) for name in COMPARED]
    assert set(style.LOOKS) >= set(COMPARED)
    assert len({(look.colour, look.marker) for look in looks}) == len(COMPARED)
    assert len({look.label for look in looks}) == len(COMPARED)
    unknown = style.look("my_new_scheme")
    assert unknown == style.look("my_new_scheme")
    assert unknown.label == "my new scheme"
    assert all(matplotlib.colors.is_color_like(look.colour) for look in [*looks, unknown])
