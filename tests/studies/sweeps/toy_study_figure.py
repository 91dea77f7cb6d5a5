"""The toy study's figure."""

from matplotlib.figure import Figure


def draw(tables):
    """Return squares against numbers."""
    if not tables[""]:
        raise ValueError("rows must hold at least one square; got none")
    figure = Figure()
    figure.subplots().plot([row["number"] for row in tables[""]], [row["square"] for row in tables[""]])
    return {"toy_study_squares": figure}
