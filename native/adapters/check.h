// Validates adapter descriptions from any source.
#pragma once

#include "graph/adapter_spec.h"

namespace lowrank {

/// Validates names, shapes, and terms, and fills in the derived fields. Throws Error("SHAPE"), and Error("CONFIG") for
/// an unknown kind of term, role, or number.
void check_adapter(AdapterSpec& spec);

}  // namespace lowrank
