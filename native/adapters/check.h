// Checks of an adapter's description, wherever one enters.
#pragma once

#include "graph/adapter_spec.h"

namespace lowrank {

/// Validates names and shapes and lays the spans out. Throws Error("SHAPE").
void check_adapter(AdapterSpec& spec);

/// Throws Error("SHAPE") for a probability that is none.
void check_dropout(const DeltaDropout& dropout, const std::string& target);

/// Whether a slot's factors fit a linear of [out, in]: exactly, or with room to spare where they are frozen.
bool fits(const AdapterSpec& spec, const LowRankSlot& slot, int64_t out, int64_t in);

}  // namespace lowrank
