import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from experiments.report import arm_styles, figure_svg, save_figure


def simulated(colour, matrix):
    """Linear-light transform of Machado, Oliveira and Fernandes (2009), severity 1."""
    rgb = np.asarray(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.clip(matrix @ linear, 0.0, 1.0)


DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)
PROTANOPIA = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)


@pytest.mark.parametrize("matrix", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_the_arms_of_a_report_stay_apart_for_colour_blind_readers(matrix):
    colours = [simulated(s.colour, matrix) for s in arm_styles([str(i) for i in range(8)]).values()]
    apart = [np.linalg.norm(a - b) for i, a in enumerate(colours) for b in colours[:i]]
    assert min(apart) > 0.15


def test_styles_depend_on_the_place_alone_and_do_not_repeat():
    styles = arm_styles([f"arm {i}" for i in range(32)])
    assert len({(style.colour, style.dash) for style in styles.values()}) == 32
    assert list(arm_styles(["a", "b"]).values()) == list(styles.values())[:2]


def sample():
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1], [0, 1])
    return figure


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    assert figure_svg(sample()) == figure_svg(sample())
    first, second = (save_figure(sample(), tmp_path / name / "a.png") for name in ("x", "y"))
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(b"\x89PNG")


def test_drawing_leaves_matplotlibs_settings_alone():
    before = dict(mpl.rcParams)
    figure_svg(sample())
    assert dict(mpl.rcParams) == before


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a.gif: a figure is written as .png, .svg, .pdf"):
        save_figure(sample(), tmp_path / "a.gif")
