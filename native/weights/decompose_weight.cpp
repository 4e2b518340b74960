#include "weights/decompose_weight.h"

#include <algorithm>

namespace lowrank {
namespace {

/// The weight, or with `source`, the source minus the weight.
std::vector<float> dense_weight(Pool& pool, const Weight& weight, const std::optional<TensorSource>& source) {
  const Weight original = source ? load_weight(pool, *source, StorageFormat::f32) : Weight();
  const WeightView view = weight.view();
  std::vector<float> out(static_cast<size_t>(view.rows * view.cols));
  pool.for_range(view.rows, std::max<int64_t>(1, 65536 / view.cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* const to = out.data() + row * view.cols;
      decode_row(view, row, 0, view.cols, to);
      if (!source) continue;
      const float* const from = static_cast<const float*>(original.data()) + row * view.cols;
      for (int64_t i = 0; i < view.cols; ++i) to[i] = from[i] - to[i];
    }
  });
  return out;
}

}  // namespace

Decomposition decompose_weight(Pool& pool, const Weight& weight, const std::string& name,
                               const std::vector<WeightedAdapter>& adapters, const DecomposeOptions& options) {
  const std::vector<float> matrix = options.target.empty() ? dense_weight(pool, weight, options.source)
                                                           : read_delta(pool, weight, name, adapters, options.target);
  if (options.form == FactorForm::qr)
    return first_of_qr(pool, matrix.data(), weight.rows(), weight.cols(), options.singular.rank);
  return largest_singular(pool, matrix.data(), weight.rows(), weight.cols(), options.singular);
}

}  // namespace lowrank
