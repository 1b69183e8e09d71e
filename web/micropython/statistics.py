"""Of Python's ``statistics``, the mean."""


def mean(values):
    values = list(values)
    return sum(values) / len(values)


fmean = mean
