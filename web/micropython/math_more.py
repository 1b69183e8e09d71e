"""What Python's ``math`` has and MicroPython's lacks."""

from math import *  # noqa: F403
from math import copysign, factorial, sqrt


def prod(values, start=1):
    for value in values:
        start *= value
    return start


def isqrt(n):
    root = int(sqrt(n))
    while root * root > n:
        root -= 1
    while (root + 1) * (root + 1) <= n:
        root += 1
    return root


def gcd(*values):
    one = 0
    for other in values:
        while other:
            one, other = other, one % other
    return abs(one)


def lcm(*values):
    found = 1
    for value in values:
        found = abs(found * value) // gcd(found, value) if value else 0
    return found


def comb(n, k):
    return factorial(n) // (factorial(k) * factorial(n - k)) if k <= n else 0


def fsum(values):
    return sum(values)


def cbrt(x):
    return copysign(abs(x) ** (1 / 3), x)


def hypot(*values):
    return sqrt(sum(value * value for value in values))
