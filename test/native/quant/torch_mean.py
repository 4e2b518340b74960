"""Prints the cases of "the mean has the bits of torch's on one thread" in four_bit.test.cpp. Needs torch 2.9.0."""

import numpy
import torch

torch.set_num_threads(1)
for count in [1, 7, 8, 31, 32, 33, 100, 511, 512, 513, 5000, 13824, 32767, 100003]:
    index = numpy.arange(count, dtype=numpy.int64)
    values = (index * 7919 % 1009 + 1).astype(numpy.float32) * numpy.float32(0.1)
    bits = torch.from_numpy(values).mean().numpy().view(numpy.uint32)
    print(f"{{{count}, 0x{int(bits):08x}}},")
