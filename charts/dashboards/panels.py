"""Panels as all our dashboards want them: one look, one data source variable. No series here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Final, Protocol, Self

from grafana_foundation_sdk.builders import bargauge, common, dashboard, piechart, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    DataSourceRef,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DynamicConfigValue,
    FieldColorModeId,
    Panel,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.piechart import PieChartLegendValues, PieChartType
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from charts.dashboards.colours import PLAIN, RED, Steps

Shown = Builder[Panel]
"""Any of our panels."""

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="$datasource")


@dataclass(frozen=True)
class Query:
    """One PromQL expression and the name of what it returns."""

    expr: str
    legend: str = ""


def curve(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    height: int = 8,
    minimum: float | None = 0,
    maximum: float | None = None,
    decimals: int | None = None,
    stacked: bool = False,
    bars: bool = False,
    steady: bool = False,
    legend: Sequence[str] | None = (),
    colours: Mapping[str, str] | None = None,
    limit: float | None = None,
    right_axis: str = "",
) -> timeseries.Panel:
    """Figures over time.

    `steady`: a value holds until the next one; `limit`: a dashed line not to be passed; `right_axis`: a regular
    expression for the names of what has a scale of its own.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(height)
        .line_width(1)
        .fill_opacity(70 if stacked else 80 if bars else 8)
        .show_points(VisibilityMode.AUTO)
        .legend(_make_legend(legend))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .targets([make_target(query, name) for query, name in zip(queries, ascii_uppercase, strict=False)])
    )
    if minimum is not None:
        panel.min(minimum)
    if maximum is not None:
        panel.max(maximum)
    if decimals is not None:
        panel.decimals(decimals)
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if bars:
        panel.draw_style(GraphDrawStyle.BARS)
    if steady:
        panel.line_interpolation(LineInterpolation.STEP_AFTER)
    if limit is not None:
        panel.thresholds(_make_thresholds(((None, "transparent"), (limit, RED))))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    if right_axis:
        panel.override_by_regexp(right_axis, [DynamicConfigValue(id_val="custom.axisPlacement", value="right")])
    _paint(panel, colours)
    return panel


def figure(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    width: int = 4,
    height: int = 3,
    decimals: int | None = None,
    steps: Steps = PLAIN,
    trend: bool = True,
    name: str = "",
    colours: Mapping[str, str] | None = None,
) -> stat.Panel:
    """One number, and how it came there (`trend`), or asked for once at the end. `name`: a word instead."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(height)
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA if trend else BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .thresholds(_make_thresholds(steps))
        .targets([make_target(Query(expr, name), "A", instant=not trend)])
    )
    panel.no_value("-")
    if name:
        panel.text_mode(BigValueTextMode.NAME)
    if decimals is not None:
        panel.decimals(decimals)
    _paint(panel, colours)
    return panel


def bars(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    width: int = 8,
    height: int = 8,
    decimals: int | None = None,
    steps: Steps = PLAIN,
    maximum: float | None = None,
    colours: Mapping[str, str] | None = None,
) -> bargauge.Panel:
    """One bar for each series, as it stands at the end of the range."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(height)
        .min(0)
        .orientation(VizOrientation.HORIZONTAL)
        .display_mode(BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .thresholds(_make_thresholds(steps))
        .targets([make_target(query, "A", instant=True)])
    )
    if decimals is not None:
        panel.decimals(decimals)
    if maximum is not None:
        panel.max(maximum)
    _paint(panel, colours)
    return panel


def shares(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    width: int = 8,
    height: int = 8,
    colours: Mapping[str, str] | None = None,
) -> piechart.Panel:
    """Parts of a whole, over the range."""
    panel = (
        piechart.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(height)
        .pie_type(PieChartType.DONUT)
        .legend(
            piechart.PieChartLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.RIGHT)
            .values([PieChartLegendValues.VALUE, PieChartLegendValues.PERCENT])
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .targets([make_target(query, "A", instant=True)])
    )
    _paint(panel, colours)
    return panel


def make_target(query: Query, name: str, instant: bool = False, as_table: bool = False) -> prometheus.Dataquery:
    """What a panel asks; `instant`: once, at the end of the range."""
    target = prometheus.Dataquery().datasource(SOURCE).expr(query.expr).ref_id(name).legend_format(query.legend)
    if as_table:
        target.format(PromQueryFormat.TABLE)
    return target.instant() if instant else target.range()


def _make_legend(calculations: Sequence[str] | None) -> common.VizLegendOptions:
    """None: no legend; figures in a table beside the names, where there are any."""
    legend = common.VizLegendOptions().placement(LegendPlacement.BOTTOM).show_legend(calculations is not None)
    legend.display_mode(LegendDisplayMode.TABLE if calculations else LegendDisplayMode.LIST)
    return legend.calcs(list(calculations or ()))


def _make_thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    made = [Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)


class _Painted(Protocol):
    """A panel whose series can have colours of their own."""

    def override_by_name(self, name: str, properties: list[DynamicConfigValue]) -> Self:
        """Set what is special about the series of this name."""


def _paint(panel: _Painted, colours: Mapping[str, str] | None) -> None:
    """Give series by their names the colours that they have everywhere."""
    for name, colour in (colours or {}).items():
        panel.override_by_name(name, [_fix_colour(colour)])


def _fix_colour(colour: str) -> DynamicConfigValue:
    return DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})
