#include "optim/chacha20.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "check.h"

using namespace lowrank;

TEST("ChaCha20's block is that of RFC 8439, 2.3.2") {
  ChaCha20::Key key;
  for (size_t i = 0; i < key.size(); ++i) key[i] = static_cast<uint8_t>(i);
  const ChaCha20::Nonce nonce{0, 0, 0, 9, 0, 0, 0, 0x4a, 0, 0, 0, 0};
  const std::array<uint32_t, 16> expected{0xe4e7f110, 0x15593bd1, 0x1fdd0f50, 0xc47120a3, 0xc7f4d1c7, 0x0368c033,
                                          0x9aaa2204, 0x4e6cd4c3, 0x466482d2, 0x09aa9f07, 0x05d7c214, 0xa2028bd9,
                                          0xd19c12b5, 0xb94e16de, 0xe883d0cb, 0x4e3c50a2};
  const std::array<uint32_t, 16> block = ChaCha20(key, nonce).block(1);
  for (int i = 0; i < 16; ++i) CHECK_EQ(block[i], expected[i]);
}

TEST("deviates from ChaCha20 are normal, and those of neighboring places do not go together") {
  const ChaCha20 stream({7}, {1});
  std::vector<double> values;
  for (uint32_t block = 0; block < 50000; ++block)
    for (const double value : normals(stream, block)) values.push_back(value);
  const auto count = static_cast<double>(values.size());
  for (size_t lag = 1; lag <= 9; ++lag) {
    double sum = 0;
    for (size_t i = lag; i < values.size(); ++i) sum += values[i] * values[i - lag];
    CHECK(std::abs(sum / count) < 5 / std::sqrt(count));  // five deviations of the mean of products
  }
  // Kolmogorov-Smirnov: sqrt(n) D exceeds 1.95 once in a thousand streams, and this one is fixed.
  std::sort(values.begin(), values.end());
  double distance = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double cdf = 0.5 * std::erfc(-values[i] / std::sqrt(2.0));
    distance = std::max({distance, static_cast<double>(i + 1) / count - cdf, cdf - static_cast<double>(i) / count});
  }
  CHECK(std::sqrt(count) * distance < 1.95);
}
