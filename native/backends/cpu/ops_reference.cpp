// The reference level: every kernel as its definition reads, with sums and functions in double. Other levels are tested
// against it, and it is what runs where no vector level does.
#include <algorithm>
#include <cmath>

#include "backends/cpu/attention.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/ops_common.h"
#include "core/math.h"
#include "core/random.h"

namespace lowrank::cpu {

uint32_t counter_hash(uint64_t key, uint64_t index) { return lowrank::counter_hash(key, index); }

namespace {

float get(const Matrix& matrix, int64_t row, int64_t col) {
  return load_element(row_of(matrix, row), matrix.dtype, col);
}
void set(const Matrix& matrix, int64_t row, int64_t col, double value) {
  store_element(row_of(matrix, row), matrix.dtype, col, static_cast<float>(value));
}

template <class Body>
void for_rows(Pool& pool, int64_t rows, int64_t cols, Body&& body) {
  pool.for_range(rows, row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

void embedding(Pool& pool, int64_t tokens, int64_t cols, const int32_t* ids, const Matrix& table, const Matrix& out) {
  for_rows(pool, tokens, cols, [&](int64_t row) {
    for (int64_t col = 0; col < cols; ++col) set(out, row, col, get(table, ids[row], col));
  });
}

double sum_of_squares(Pool& pool, int64_t count, const float* x) {
  return sum_chunks(pool, count, [x](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += double{x[i]} * x[i];
    return sum;
  });
}

void adamw(int64_t count, const AdamW& options, const float* grad, float* m, float* v, float* p) {
  const double b1 = options.beta1, b2 = options.beta2;
  const double correction1 = 1.0 - math::pow(b1, static_cast<double>(options.step));
  const double correction2 = 1.0 - math::pow(b2, static_cast<double>(options.step));
  const double step_size = options.learning_rate / correction1;
  const double decay = 1.0 - double{options.learning_rate} * options.weight_decay;
  for (int64_t i = 0; i < count; ++i) {
    const double g = double{grad[i]} * options.grad_scale;
    const double first = b1 * m[i] + (1.0 - b1) * g;
    const double second = b2 * v[i] + (1.0 - b2) * g * g;
    m[i] = static_cast<float>(first);
    v[i] = static_cast<float>(second);
    p[i] = static_cast<float>(p[i] * decay - step_size * first / (std::sqrt(second / correction2) + options.epsilon));
  }
}

void encode(const DynamicCoder& coder, const float* values, int64_t count, const DynamicCodes& to) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(values[i]));
  encode_block(coder, values, largest, count, to);
}

void adamw_8bit(int64_t count, const AdamW& options, const float* grad, const DynamicCodes& m,
                const DynamicCodes& root_v, float* p) {
  for_state_blocks(count, [&](int64_t begin, int64_t size) {
    float first[kDynamicBlock], second[kDynamicBlock];
    decode_block(DynamicCoder::with_sign(), m.from(begin), size, first);
    decode_block(DynamicCoder::without_sign(), root_v.from(begin), size, second);
    for (int64_t i = 0; i < size; ++i) second[i] *= second[i];
    adamw(size, options, grad + begin, first, second, p + begin);
    for (int64_t i = 0; i < size; ++i) second[i] = std::sqrt(second[i]);
    encode(DynamicCoder::with_sign(), first, size, m.from(begin));
    encode(DynamicCoder::without_sign(), second, size, root_v.from(begin));
  });
}

void sgd(int64_t count, const Sgd& options, const float* grad, float* m, float* p) {
  const double rate = options.learning_rate, momentum = options.momentum, decay = options.weight_decay;
  for (int64_t i = 0; i < count; ++i) {
    const double g = double{grad[i]} * options.grad_scale + decay * p[i];
    const double moved = m == nullptr ? g : momentum * m[i] + g;
    if (m != nullptr) m[i] = static_cast<float>(moved);
    p[i] = static_cast<float>(p[i] - rate * moved);
  }
}

void lion(int64_t count, const Lion& options, const float* grad, float* m, float* p) {
  const double b1 = options.beta1, b2 = options.beta2;
  const double decay = 1.0 - double{options.learning_rate} * options.weight_decay;
  for (int64_t i = 0; i < count; ++i) {
    const double g = double{grad[i]} * options.grad_scale;
    const double mixed = b1 * m[i] + (1.0 - b1) * g;
    const double sign = mixed > 0 ? 1 : mixed < 0 ? -1 : 0;
    p[i] = static_cast<float>(p[i] * decay - options.learning_rate * sign);
    m[i] = static_cast<float>(b2 * m[i] + (1.0 - b2) * g);
  }
}

void lion_8bit(int64_t count, const Lion& options, const float* grad, const DynamicCodes& m, float* p) {
  for_state_blocks(count, [&](int64_t begin, int64_t size) {
    float moment[kDynamicBlock];
    decode_block(DynamicCoder::with_sign(), m.from(begin), size, moment);
    lion(size, options, grad + begin, moment, p + begin);
    encode(DynamicCoder::with_sign(), moment, size, m.from(begin));
  });
}

}  // namespace

const OpKernels ops_reference = {
    .embedding = embedding,
    .attention = attention_reference,
    .attention_backward = attention_backward_reference,
    .sum_of_squares = sum_of_squares,
    .adamw = adamw,
    .adamw_8bit = adamw_8bit,
    .sgd = sgd,
    .lion = lion,
    .lion_8bit = lion_8bit,
};

}  // namespace lowrank::cpu
