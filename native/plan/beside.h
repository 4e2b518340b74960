// Buffers whose rows lie beside each other in those of a wider one, which lives as long as any of them.
#pragma once

#include <vector>

#include "plan/plan.h"

namespace lowrank {

/// Candidates that may lie within another buffer, without repeats.
std::vector<int> placeable_beside(const std::vector<Buffer>& buffers, const std::vector<int>& candidates);
/// Columns of a buffer in which others lie beside each other.
int64_t columns_beside(const std::vector<Buffer>& buffers, const std::vector<int>& inner);
void lay_within(std::vector<Buffer>& buffers, const std::vector<int>& inner, int outer);
/// Extends lifetimes to those of the buffers within.
void live_with_inner(std::vector<Buffer>& buffers);

}  // namespace lowrank
