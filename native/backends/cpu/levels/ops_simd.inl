// The element-wise and row-wise kernels over the vectors of one instruction set. Included once per level, inside its
// target region and namespace, after vec_<isa>.h and vec_math.inl.

#include "backends/cpu/levels/areas.inl"

#include "backends/cpu/levels/table.inl"

#undef LOWRANK_ELEMENT
