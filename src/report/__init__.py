"""report.html: a run's metrics, curves, confusions and pictures on one self-contained page.

`write` reads a run directory and writes the page; `page` puts it together from plain data,
with one module for each kind of section.
"""
