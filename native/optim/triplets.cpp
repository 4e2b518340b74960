#include "optim/triplets.h"

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

void add_orthogonal_gradients(Launcher& launch, const Adapter& adapter, int only) {
  std::vector<OrthogonalPiece> pieces;
  for (const TripletSpec& triplet : adapter.spec().triplets) {
    if (triplet.orthogonal == 0) continue;
    for (const int index : {triplet.b, triplet.a}) {
      if (only >= 0 && only != index) continue;
      const ParameterSpec& p = adapter.spec().parameters[index];
      const bool turned = index == triplet.a;  // A by its columns, as B is by its rows
      pieces.push_back({turned ? p.cols : p.rows, turned ? p.rows : p.cols, turned, triplet.orthogonal,
                        adapter.at(index), adapter.at(index, AdapterArray::gradient)});
    }
  }
  if (!pieces.empty()) launch(Orthogonal{pieces});
}

void follow_importances(Launcher& launch, const Adapter& adapter, float clip, int only) {
  if (!adapter.span(AdapterArray::sensitivity)) return;
  for (const TripletSpec& triplet : adapter.spec().triplets) {
    for (const int index : {triplet.a, triplet.d, triplet.b}) {
      if (only >= 0 && only != index) continue;
      const ParameterSpec& p = adapter.spec().parameters[index];
      launch(FollowImportances{p.rows * p.cols, triplet.beta1, triplet.beta2, clip, adapter.at(index),
                               adapter.at(index, AdapterArray::gradient), adapter.at(index, AdapterArray::sensitivity),
                               adapter.at(index, AdapterArray::uncertainty)});
    }
  }
}

std::vector<double> triplet_scores(Pool& pool, const Adapter& adapter) {
  if (!adapter.span(AdapterArray::sensitivity))
    fail("CONFIG", "the adapter tracks no importances, or they were dropped");
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
        const HostView<const float> sensitivity = adapter.view(parameter, AdapterArray::sensitivity);
        const HostView<const float> uncertainty = adapter.view(parameter, AdapterArray::uncertainty);
        const double share = 1.0 / static_cast<double>(transposed ? p.rows : p.cols);
        for (int64_t i = 0; i < p.rows; ++i)
          for (int64_t j = 0; j < p.cols; ++j)
            first[t][transposed ? j : i] += share * (double{sensitivity[i * p.cols + j]} * uncertainty[i * p.cols + j]);
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
    fail("SHAPE", "keep has ", keep.size(), " entries for ", triplets_of(spec), " triplets");
  size_t next = 0;
  for (const TripletSpec& triplet : spec.triplets) {
    const HostView<float> d = adapter.edit(triplet.d);
    for (int64_t i = 0; i < spec.parameters[triplet.d].cols; ++i)
      if (keep[next++] == 0) d[i] = 0;
  }
  adapter.values_changed();
}

}  // namespace lowrank
