#include "core/version.h"

namespace lowrank {

const char* version() { return LOWRANK_VERSION; }

}  // namespace lowrank
