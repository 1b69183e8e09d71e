"""Frameworks in environments of their own: the case goes there as arrays, and parameters come back.

Nothing of them is installed beside this project: ``uv`` makes an environment at the first use.
"""
