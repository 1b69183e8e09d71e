"""Solutions to the exercises of notebook 03."""


def variance(trace, batch_size, num_samples):
    return trace / batch_size * (1 - batch_size / num_samples)


def noise_scale(micro_batch_size, steps, mean_square, whole):
    batch = micro_batch_size * steps
    trace = (mean_square - whole) / (1 / micro_batch_size - 1 / batch)
    squared_norm = whole - trace / batch
    return trace / squared_norm


def fall(batch_size, larger, num_samples):
    return larger / batch_size * (num_samples - batch_size) / (num_samples - larger)
