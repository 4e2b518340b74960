// Checks of an adapter's description, wherever one enters.
#pragma once

#include "graph/adapter_spec.h"

namespace lowrank {

/// Validates names, shapes and terms, and fills what the description says of itself. Throws Error("SHAPE"), and
/// Error("CONFIG") for a kind of term, a role or a number that there is not.
void check_adapter(AdapterSpec& spec);

}  // namespace lowrank
