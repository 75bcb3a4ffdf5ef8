# SPDX-License-Identifier: BSD-2-Clause
"""The table, and the plot."""

from rows import COLUMNS

COLOURS = {"vmci": "#1b6ca8", "virtio-serial": "#e08e36", "tcp": "#8a8a8a", "bare": "#4f9d69",
           "unix": "#b3554d", "zmq": "#8e6bb0", "nng": "#c9a227",
           "udp": "#5f5f5f", "in-box": "#e08e36"}


def short(figure):
    """Three digits, no exponent."""
    if figure is None:
        return "-"
    if figure >= 100:
        return f"{figure:.0f}"
    return f"{figure:.3g}" if figure >= 0.001 or not figure else f"{figure:.4f}"


def spread(result):
    figures = result.figures.get("vmci")
    return f"{short(min(figures))}..{short(max(figures))}" if figures else "-"


def ways_of(result):
    """The columns of a row's table."""
    return COLUMNS[result.row.section]


def line_of(result):
    return [result.row.name, result.row.unit, short(result.value), spread(result),
            *(short(result.medians.get(way)) for way in ways_of(result)[1:]),
            f"{result.ratio:.2f}" if result.ratio is not None else "-",
            result.row.goal.text if result.row.goal else "-", result.reached or "-"]


def grid(results):
    """The rows as text, all with the same columns."""
    ways = ways_of(results[0])
    head = ["row", "unit", "vmci", "min..max", *ways[1:], "ratio", "goal", "reached"]
    lines = [head] + [line_of(result) for result in results]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = []
    for line in lines:
        cells = [cell.ljust(width) if i in (0, 1, len(head) - 2) else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(line, widths))]
        text.append("  ".join(cells).rstrip())
    text.insert(1, "-" * max(map(len, text)))
    return text + [""]


def table(results):
    """The rows as text, and below it what the notes say."""
    text = []
    for ways in dict.fromkeys(COLUMNS.values()):
        some = [result for result in results if ways_of(result) == ways]
        text += grid(some) if some else []
    notes = {}
    for result in results:
        if result.note:
            notes.setdefault(result.note, []).append(result.row.name)
    text += [f"{'; '.join(names)}:\n    {note}" for note, names in notes.items()]
    return "\n".join(text)


def reach(figures):
    """What an error bar shows: all figures; of many, the middle half."""
    figures = sorted(figures)
    cut = len(figures) // 4 if len(figures) >= 8 else 0
    return figures[cut], figures[-1 - cut]


def bars(axes, title, results):
    """Horizontal bars of the transports, a group for each row; the first row on top."""
    row = results[0].row
    better = "more" if row.more else "less"
    axes.set_title(f"{title}, {row.unit} ({better} is better)", fontsize=10)
    for at, result in enumerate(results):
        ways = [way for way in ways_of(result) if way in result.medians]
        for i, way in enumerate(ways):
            thick = min(0.27, 0.9 / len(ways))
            middle = at + (i - (len(ways) - 1) / 2) * thick
            figure, (low, high) = result.medians[way], reach(result.figures[way])
            axes.barh(middle, figure, 0.93 * thick, color=COLOURS[way],
                      xerr=[[figure - low], [high - figure]],
                      error_kw={"elinewidth": 0.8})
            axes.text(high, middle, f" {short(figure)}", va="center", fontsize=7)
    axes.set_yticks(range(len(results)))
    axes.set_yticklabels([result.row.name for result in results], fontsize=8)
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.margins(x=0.15)
    axes.tick_params(axis="x", labelsize=8)
    for side in "top", "right":
        axes.spines[side].set_visible(False)


def panel_of(row):
    """Figures of one unit and magnitude go together."""
    if row.section == "host":
        return row.name
    if row.section == "modules":
        return f"modules {row.unit}, writes of {row.size} B" if row.unit == "MB/s" else f"modules {row.unit}"
    if row.section in ("fabric", "shim"):
        return row.name if row.unit != "MB/s" else f"{row.name.split()[0]} throughput"
    if row.unit in ("ms", "us"):
        return "connect" if row.unit == "ms" else "round trip"
    name = row.name.split()[0]
    return f"{name}, writes of 64 B" if row.size == 64 else name


def plot(results, path, title):
    """One panel for each kind of row, on a scale from zero."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import patches, pyplot

    panels = {}
    for result in results:
        if result.row.section != "ports" and "vmci" in result.medians:
            panels.setdefault(panel_of(result.row), []).append(result)
    if not panels:
        return
    figure, axes = pyplot.subplots(
        len(panels), 1, squeeze=False, figsize=(9, 1 + 0.75 * len(results)),
        gridspec_kw={"height_ratios": [len(rows) + 0.3 for rows in panels.values()]})
    for ax, (name, rows) in zip(axes[:, 0], panels.items()):
        bars(ax, name, rows)
    figure.legend(handles=[patches.Patch(color=colour, label=way)
                           for way, colour in COLOURS.items()],
                  loc="upper right", fontsize=8, ncol=len(COLOURS), frameon=False)
    figure.suptitle(title, fontsize=9, x=0.02, ha="left")
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    figure.savefig(path, dpi=110)
