"""Dashboards for Grafana, generated: `python -m grafana.dashboards` writes the JSON beside it.

shapes      what a dashboard, a row, a panel and a query are, as values
overview, audit, kubernetes    the dashboards, as tables of these
building    from values to Grafana's JSON: what all panels have in common
dashboards  which there are, and writing them
"""
