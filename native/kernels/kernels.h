// Every kernel that a step may launch, as a value: what it computes, and the location of its operands. Devices
// implement kernels; what planning, tracing, and counting ask of them is answered here. Activations are row-major;
// operands are f32 or bf16 according to the plan's precision; the residual stream and all statistics are f32.
// `operands` declares the memory a kernel accesses, which LOWRANK_CHECK=operands verifies.
#pragma once

#include <vector>

#include "kernels/variant.h"

namespace lowrank {

/// Names of all kernels.
std::vector<const char*> kernel_names();
const char* name_of(const Kernel& kernel);

/// The kernel itself, of the type that its index in the list stands for.
const void* value_of(const Kernel& kernel);

/// Visits the memory that a kernel accesses.
void operands(const Kernel& kernel, Operands& see);

/// Minimum multiply-adds of products: for Kronecker products in the cheaper order. 0 for kernels without products and
/// for memory-bound ones.
double multiply_adds(const Kernel& kernel);

}  // namespace lowrank
