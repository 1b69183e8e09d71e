"""Plain records that lenses fill and figures draw: NumPy arrays with names, shapes and units.

They know neither torch nor Plotly, so that a figure, a test and a table all read the same thing.
"""
