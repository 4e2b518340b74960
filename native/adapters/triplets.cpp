#include "adapters/triplets.h"

#include <cmath>
#include <cstddef>

#include "core/error.h"

namespace lowrank {
namespace {

int64_t triplets_of(const AdapterSpec& spec) {
  int64_t count = 0;
  for (const TripletSpec& triplet : spec.triplets) count += spec.parameters[triplet.d].cols;
  return count;
}

}  // namespace

void add_orthogonal_gradient(int64_t rows, int64_t rank, const float* x, double weight, float* gradient) {
  std::vector<double> p(rank * rank), row(rank);  // X^T X - I
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t k = 0; k < rank; ++k) row[k] = x[i * rank + k];
    for (int64_t k = 0; k < rank; ++k)
      for (int64_t j = 0; j < rank; ++j) p[k * rank + j] += row[k] * row[j];
  }
  double squares = 0;
  for (int64_t k = 0; k < rank; ++k) p[k * rank + k] -= 1;
  for (const double value : p) squares += value * value;
  if (squares == 0) return;
  const double factor = 2 * weight / std::sqrt(squares);
  for (int64_t i = 0; i < rows; ++i) {
    row.assign(rank, 0);
    for (int64_t k = 0; k < rank; ++k)
      for (int64_t j = 0; j < rank; ++j) row[j] += x[i * rank + k] * p[k * rank + j];
    for (int64_t j = 0; j < rank; ++j) gradient[i * rank + j] += static_cast<float>(factor * row[j]);
  }
}

void add_orthogonal_gradients(Pool& pool, Adapter& adapter, int only) {
  const AdapterSpec& spec = adapter.spec();
  const auto wanted = [only](int parameter) { return only < 0 || only == parameter; };
  pool.for_range(static_cast<int64_t>(spec.triplets.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const TripletSpec& triplet = spec.triplets[t];
      if (triplet.orthogonal == 0) continue;
      const ParameterSpec &a = spec.parameters[triplet.a], &b = spec.parameters[triplet.b];
      if (wanted(triplet.b))
        add_orthogonal_gradient(b.rows, b.cols, adapter.data(triplet.b), triplet.orthogonal,
                                adapter.data(triplet.b, AdapterArray::gradient));
      if (!wanted(triplet.a)) continue;
      // A by its columns, as B is by its rows.
      const float* const values = adapter.data(triplet.a);
      float* const gradient = adapter.data(triplet.a, AdapterArray::gradient);
      std::vector<float> turned(a.rows * a.cols), turned_gradient(a.rows * a.cols);
      for (int64_t i = 0; i < a.rows; ++i)
        for (int64_t j = 0; j < a.cols; ++j) turned[j * a.rows + i] = values[i * a.cols + j];
      add_orthogonal_gradient(a.cols, a.rows, turned.data(), triplet.orthogonal, turned_gradient.data());
      for (int64_t i = 0; i < a.rows; ++i)
        for (int64_t j = 0; j < a.cols; ++j) gradient[i * a.cols + j] += turned_gradient[j * a.rows + i];
    }
  });
}

void follow_importances(Pool& pool, Adapter& adapter, float clip, int only) {
  if (adapter.span(AdapterArray::sensitivity) == nullptr) return;
  const AdapterSpec& spec = adapter.spec();
  for (const TripletSpec& triplet : spec.triplets) {
    const float b1 = triplet.beta1, b2 = triplet.beta2;
    for (const int parameter : {triplet.a, triplet.d, triplet.b}) {
      if (only >= 0 && only != parameter) continue;
      const float* const value = adapter.data(parameter);
      const float* const gradient = adapter.data(parameter, AdapterArray::gradient);
      float* const sensitivity = adapter.data(parameter, AdapterArray::sensitivity);
      float* const uncertainty = adapter.data(parameter, AdapterArray::uncertainty);
      const ParameterSpec& p = spec.parameters[parameter];
      pool.for_range(p.rows * p.cols, 16384, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const float importance = std::fabs(value[i] * (clip * gradient[i]));
          sensitivity[i] = b1 * sensitivity[i] + (1 - b1) * importance;
          uncertainty[i] = b2 * uncertainty[i] + (1 - b2) * std::fabs(importance - sensitivity[i]);
        }
      });
    }
  }
}

std::vector<double> triplet_scores(Pool& pool, const Adapter& adapter) {
  if (adapter.span(AdapterArray::sensitivity) == nullptr)
    fail("CONFIG", "the adapter follows no importances, or they were dropped");
  const AdapterSpec& spec = adapter.spec();
  std::vector<double> scores(triplets_of(spec));
  std::vector<double*> first;
  double* next = scores.data();
  for (const TripletSpec& triplet : spec.triplets) {
    first.push_back(next);
    next += spec.parameters[triplet.d].cols;
  }
  pool.for_range(static_cast<int64_t>(spec.triplets.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const TripletSpec& triplet = spec.triplets[t];
      // Adds the mean over each row of [count, rank] or of its transpose.
      const auto add = [&](int parameter, bool transposed) {
        const ParameterSpec& p = spec.parameters[parameter];
        const float* const sensitivity = adapter.data(parameter, AdapterArray::sensitivity);
        const float* const uncertainty = adapter.data(parameter, AdapterArray::uncertainty);
        const double share = 1.0 / static_cast<double>(transposed ? p.rows : p.cols);
        for (int64_t i = 0; i < p.rows; ++i)
          for (int64_t j = 0; j < p.cols; ++j)
            first[t][transposed ? j : i] +=
                share * (double{sensitivity[i * p.cols + j]} * uncertainty[i * p.cols + j]);
      };
      add(triplet.d, true);
      add(triplet.a, false);
      add(triplet.b, true);
    }
  });
  return scores;
}

void prune_triplets(Adapter& adapter, const std::vector<uint8_t>& keep) {
  const AdapterSpec& spec = adapter.spec();
  if (static_cast<int64_t>(keep.size()) != triplets_of(spec))
    fail("SHAPE", "there are ", triplets_of(spec), " triplets, and ", keep.size(), " of them are to be kept or not");
  size_t next = 0;
  for (const TripletSpec& triplet : spec.triplets) {
    float* const d = adapter.data(triplet.d);
    for (int64_t i = 0; i < spec.parameters[triplet.d].cols; ++i)
      if (keep[next++] == 0) d[i] = 0;
  }
  adapter.values_changed();
}

}  // namespace lowrank
