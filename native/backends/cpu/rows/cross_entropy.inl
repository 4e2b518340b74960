// The loss of rows of logits and its gradient, over vectors.
#pragma once

/// A row of logits is visited in at most this many blocks of at least 1024, small enough to be read twice from L1.
inline constexpr int64_t kSoftmaxBlocks = 256;
static int64_t softmax_block(int64_t vocab) {
  return std::max<int64_t>(1024, round_up((vocab + kSoftmaxBlocks - 1) / kSoftmaxBlocks, W));
}

/// Log-sum-exp of a row in one visit of memory: of each block the largest value, then the sum, which is rescaled
/// whenever a block raises the maximum. With `kept`, e^(z - tops[block]) is left there (it may be z).
static double log_sum_exp(const float* z, int64_t count, float* kept, float* tops) {
  const int64_t block_size = softmax_block(count);
  float top = kMinusInfinity;
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += block_size) {
    const int64_t size = std::min(block_size, count - begin);
    const float* block = z + begin;
    float block_top = block[0];
    V most = set1(block_top);
    int64_t i = 0;
    for (; i + W <= size; i += W) most = max(most, load(block + i));
    block_top = largest(most);
    for (; i < size; ++i) block_top = std::max(block_top, block[i]);
    if (block_top > top) {
      total *= math::exp(static_cast<double>(top) - block_top);
      top = block_top;
    }
    *tops++ = top;
    const V shift = set1(top);
    total += sum_vectors(size, [&](int64_t at, auto lanes) {
      V e = exp_below(sub(load(block + at, lanes), shift));
      if constexpr (std::is_same_v<decltype(lanes), Part>) e = where(lanes_below(lanes.count), e);
      if (kept != nullptr) store(kept + begin + at, e, lanes);
      return e;
    });
  }
  return top + math::log(total);
}

/// Mean of a row, of sums over short stretches.
static double mean_of_row(const float* z, int64_t count) {
  constexpr int64_t kStretch = 1024;
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kStretch)
    total += sum_vectors(std::min(kStretch, count - begin),
                         [&](int64_t at, auto lanes) { return load(z + begin + at, lanes); });
  return total / static_cast<double>(count);
}

static void run(const Cpu& cpu, const CrossEntropy& k) {
  with_type(k.grad.dtype, [&](auto tag) {
    using T = LOWRANK_ELEMENT(tag);
    const int64_t vocab = k.vocab;
    const bool makes_gradient = static_cast<bool>(k.grad.data);
    float *const loss = host(k.loss), *const lse = host(k.lse);
    for_rows(cpu.pool, k.rows, vocab, [&](int64_t row) {
      float* z = row_as<float>(k.logits, row);
      T* out = row_as<T>(k.grad, row);
      const int32_t label = host(k.labels)[row];
      const float weight = k.weights ? host(k.weights)[row] : k.weight;
      if (k.inverse_temperature != 1) {
        const V scale = set1(k.inverse_temperature);
        for_vectors(0, vocab, [&](int64_t i, auto lanes) { store(z + i, mul(load(z + i, lanes), scale), lanes); });
      }
      if (label < 0 || label >= vocab) {
        if (!k.lse_known) loss[row] = 0;
        if (lse != nullptr && !k.lse_known) lse[row] = 0;
        if (makes_gradient) std::memset(out, 0, static_cast<size_t>(vocab) * sizeof(T));
        return;
      }
      const double of_label = z[label];
      const double mean = k.smoothing > 0 && !k.lse_known ? mean_of_row(z, vocab) : 0;
      // Place of the exponentials until the sum is known: over the logits, or in a gradient of the same type.
      float* kept = k.grad.data.address() == k.logits.data.address() ? z : nullptr;
      if constexpr (std::is_same_v<T, float>) kept = out;
      if (!makes_gradient || k.lse_known) kept = nullptr;
      float tops[kSoftmaxBlocks];
      const double total = k.lse_known ? lse[row] : log_sum_exp(z, vocab, kept, tops);
      if (!k.lse_known) {
        loss[row] = static_cast<float>(total - of_label + k.smoothing * (of_label - mean));
        if (lse != nullptr) lse[row] = static_cast<float>(total);
      }
      if (!makes_gradient) return;
      const int64_t block_size = softmax_block(vocab);
      const float each = k.smoothing / static_cast<float>(vocab) * weight;
      for (int64_t begin = 0; begin < vocab;
           begin += block_size) {  // ascending: no store reaches a logit still to be read
        const int64_t end = std::min(begin + block_size, vocab);
        const V share = set1(each);
        if (kept != nullptr) {
          const V factor = set1(static_cast<float>(math::exp(tops[begin / block_size] - total) * weight));
          for_vectors(begin, end, [&](int64_t i, auto lanes) {
            store(out + i, sub(mul(load(kept + i, lanes), factor), share), lanes);
          });
        } else {
          const V shift = set1(static_cast<float>(total)), factor = set1(weight);
          for_vectors(begin, end, [&](int64_t i, auto lanes) {
            store(out + i, sub(mul(exp_below(sub(load(z + i, lanes), shift)), factor), share), lanes);
          });
        }
      }
      const float target = static_cast<float>((math::expm1(of_label - total) + k.smoothing) * weight - double{each});
      store_element(reinterpret_cast<std::byte*>(out), k.grad.dtype, label, target);
    });
  });
}
