"""report.html: a run's metrics, curves, confusions and pictures on one page that needs nothing beside it.

`write` reads a run directory and writes the page; `page` puts it together from plain data,
one section a file.
"""
