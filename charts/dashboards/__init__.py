"""The Grafana dashboards of the chart, as code: `python -m charts.dashboards --write | --check`.

Needed by developers only: what is installed are the JSON files in charts/finetune-operator/dashboards.
Series come from docs/reference/metrics.md and from nowhere else.
"""
