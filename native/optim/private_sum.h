// Differentially private updates of an adapter: contributions of clients or examples are clipped jointly over all that
// trains and added up, noise is added once to the sum, and the mean becomes the gradient of an ordinary optimizer's
// step. Only the ranks in use in a round are coordinates of the sum, and get noise.
#pragma once

#include <cstdint>

#include "adapters/adapter.h"
#include "core/context.h"
#include "optim/chacha20.h"
#include "optim/ranks.h"

namespace lowrank {

/// Noise added to the sum before its release. It is a function of (key, round, coordinate) only, so repeating a round
/// after an interruption releases the same numbers.
struct ReleaseNoise {
  ChaCha20::Key key{};
  uint64_t round = 0;
  double deviation = 0;  // of the sum, in each coordinate; 0 is none
};

/// The factor that limits a norm to `bound`: min(1, bound / (norm + 1e-6)), as in Opacus; 0 for a norm that is not
/// finite, so that such a contribution is dropped.
double clip_factor(double norm, double bound);

/// Throws Error("CONFIG") for an adapter without a sum of contributions.
void expect_private(const Adapter& adapter);

/// An empty sum. Of clients, also keeps the values and the optimizer's state as they are now, which are the server's.
void begin_round(Adapter& adapter);

/// Resets to the values at the start of the round, with a fresh optimizer.
void begin_client(Adapter& adapter);

/// Adds the change of the values since the start of the round, negated like a gradient, clipped to `bound`. Returns the
/// norm before clipping.
double add_client(Context& context, Adapter& adapter, const TrainedRanks& ranks, double bound);

/// Adds `weight` times a gradient in the layout of the trained parameters, clipped to `bound` after weighting. Returns
/// the norm before clipping.
double add_gradient(Context& context, Adapter& adapter, const TrainedRanks& ranks, const float* gradient, double weight,
                    double bound);

/// Brings the server's values and state back, and makes (sum + noise) / cohort the adapter's gradient, zero outside of
/// the round's ranks. `cohort` is the expected number of contributions: to divide by the real one would tell it.
void release(Context& context, Adapter& adapter, const TrainedRanks& ranks, const ReleaseNoise& noise, double cohort);

}  // namespace lowrank
