"""Whole dashboards: variables, links, annotations and the frame around the panels. No series here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from charts.dashboards.panels import SOURCE, Query, Shown, make_target
from charts.dashboards.titles import BOARDS

TAG: Final = "finetune-operator"
ANY: Final = ".+"


def choose_source() -> dashboard.DatasourceVariable:
    """Which Prometheus answers."""
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def choose(
    name: str, label: str, series: str, where: str = "", *, of: str = "", every: str = ""
) -> dashboard.QueryVariable:
    """A label's values to choose from. `every`: several may be chosen, and this expression stands for all of them."""
    selector = series + (f"{{{where}}}" if where else "")
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(f"label_values({selector}, {of or name})")
        .definition(f"label_values({selector}, {of or name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    if every:
        variable.multi(True).include_all(True).all_value(every)
        variable.current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    return variable


def ask(name: str, label: str, value: str, description: str) -> dashboard.TextBoxVariable:
    """A number that only people know."""
    return (
        dashboard.TextBoxVariable(name)
        .label(label)
        .description(description)
        .default_value(value)
        .hide(VariableHide.DONT_HIDE)
        .current(VariableOption(selected=True, text=value, value=value))
        .options([VariableOption(selected=True, text=value, value=value)])
    )


def mark(
    name: str, expr: str, colour: str, title: str, *, text: str = "", timed: bool = False, shown: bool = True
) -> dashboard.AnnotationQuery:
    """Moments that are drawn into all curves. `timed`: the value is the moment, in milliseconds since 1970."""
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(shown)
        .icon_color(colour)
        .expr(expr)
        .target(make_target(Query(expr), "A"))
        .title_format(title)
        .text_format(text)
        .use_value_for_time(timed)
    )


def board(
    uid: str,
    description: str,
    *,
    variables: Iterable[Builder[Any]],
    rows: Mapping[str, Sequence[Shown]],
    marks: Iterable[dashboard.AnnotationQuery] = (),
    since: str = "now-6h",
    refresh: str = "30s",
) -> dict[str, Any]:
    """A whole dashboard, with links to the others.

    The classic schema, since every Grafana from 10 on takes it from the sidecar; the newer one asks for Grafana 12.
    """
    builder = (
        dashboard.Dashboard(BOARDS[uid])
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time(since, "now")
        .refresh(refresh)
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .variables([choose_source(), *variables])
        .annotations(list(marks))
        .links([_link(other, name) for other, name in BOARDS.items() if other != uid])
    )
    for name, panels in rows.items():
        builder.with_row(dashboard.Row(name))
        for panel in panels:
            builder.with_panel(panel)
    made = builder.build()
    for number, each in zip(count(1), made.panels or [], strict=False):
        each.id_val = number
    # The builder's placement would have Grafana 12 hide them behind a button.
    for link in made.links or []:
        link.placement = None  # type: ignore[assignment]
    for each_mark in (made.annotations.list_val if made.annotations else None) or []:
        each_mark.placement = None  # type: ignore[assignment]
    made.version = 1
    return made.to_json()


def _link(uid: str, title: str) -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink(title)
        .type(DashboardLinkType.LINK)
        .url(f"/d/{uid}?${{datasource:queryparam}}")
        .icon("dashboard")
        .tooltip(title)
        .keep_time(True)
    )
