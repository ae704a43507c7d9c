"""Tables: columns in, one panel out. No series here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models.common import TableCellHeight
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    ValueMap,
    ValueMappingResult,
)

from charts.dashboards.colours import Steps
from charts.dashboards.panels import SOURCE, Query, make_target


@dataclass(frozen=True)
class Column:
    """A column of a table: a label, or the value of an instant query."""

    title: str
    expr: str = ""
    """Empty for a label of the first query."""
    label: str = ""
    unit: str = ""
    decimals: int | None = None
    width: int | None = None
    bar: bool = False
    """Drawn as a bar between 0 and 1."""
    steps: Steps = ()
    colours: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    """Words in the place of values."""
    link: str = ""


def listing(
    title: str,
    description: str,
    *columns: Column,
    width: int = 24,
    height: int = 12,
    highest_first: str = "",
) -> table.Panel:
    """A table: one row for each combination of labels that its queries share, the columns in the order given."""
    asked = [column for column in columns if column.expr]
    names = {column.title: f"Value #{letter}" for column, letter in zip(asked, ascii_uppercase, strict=False)}
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("short")
        .span(width)
        .height(height)
        .filterable(True)
        .cell_height(TableCellHeight.SM)
        .footer(common.TableFooterOptions().show(False).reducer([]).enable_pagination(True))
        .targets([make_target(Query(each.expr), names[each.title][-1], instant=True, as_table=True) for each in asked])
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(_arrange(columns, names))
    )
    for column in columns:
        panel.override_by_name(column.title, _style(column))
    if highest_first:
        panel.sort_by([common.TableSortByFieldState().display_name(highest_first).desc(True)])
    return panel


def _arrange(columns: Sequence[Column], names: Mapping[str, str]) -> DataTransformerConfig:
    sources = [column.label or names[column.title] for column in columns]
    return DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": {"Time": True, "Value": True}
            | {names[column.title]: True for column in columns if column.label and column.title in names},
            "indexByName": {source: index for index, source in enumerate(sources)},
            "renameByName": dict(zip(sources, (column.title for column in columns), strict=True)),
        },
    )


def _style(column: Column) -> list[DynamicConfigValue]:
    properties: list[tuple[str, object]] = []
    if column.unit:
        properties.append(("unit", column.unit))
    if column.decimals is not None:
        properties.append(("decimals", column.decimals))
    if column.width is not None:
        properties.append(("custom.width", column.width))
    if column.bar:
        properties += [("min", 0), ("max", 1), ("custom.cellOptions", {"type": "gauge", "mode": "basic"})]
    if column.steps:
        steps = [{"value": value, "color": colour} for value, colour in column.steps]
        properties.append(("thresholds", {"mode": "absolute", "steps": steps}))
        properties.append(("color", {"mode": "thresholds"}))
        if not column.bar:
            properties.append(("custom.cellOptions", {"type": "color-text"}))
    if column.colours or column.texts:
        options = {name: ValueMappingResult(color=colour) for name, colour in column.colours.items()}
        options |= {value: ValueMappingResult(text=text) for value, text in column.texts.items()}
        properties.append(("mappings", [ValueMap(options=options)]))
    if column.colours:
        properties.append(("custom.cellOptions", {"type": "color-text"}))
    if column.link:
        properties.append(("links", [{"title": "Open", "url": column.link, "targetBlank": False}]))
    return [DynamicConfigValue(id_val=name, value=value) for name, value in properties]
