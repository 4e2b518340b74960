// The loops over an adapter's factors.
#pragma once

#include "core/pool.h"
#include "kernels/kernels.h"

namespace lowrank::cpu {

void gather_columns(Pool& pool, const GatherColumns& k);
void scatter_columns(Pool& pool, const ScatterColumns& k);

}  // namespace lowrank::cpu
