"""Every figure of the documentation, drawn: `python -m docs.figures`.

One file a figure or a family of them; `svg.py` and `chart.py` are what they are drawn with.
"""
