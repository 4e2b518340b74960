// The buffers of a plan under construction. Rows of some may lie beside each other in those of a wider one, which lives
// as long as any of them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "plan/plan.h"

namespace lowrank {

class Buffers {
 public:
  /// @param joins true if the device multiplies operands as one where they lie beside each other
  Buffers(std::vector<Buffer>& all, const PlanOptions& options, bool joins)
      : all_(all), options_(options), joins_(joins) {}

  int add(const std::string& name, Category category, DType dtype, RowKind rows, int64_t cols);
  /// See Planner::lay_beside.
  void lay_beside(const std::string& name, const std::vector<int>& operands);
  /// See Planner::tail.
  int tail(int buffer, int64_t cols);
  void keep_dense(int buffer);
  /// Extends the lifetimes of wider buffers to those within.
  void live_with_inner();

 private:
  bool may_lie_within(int buffer) const { return !all_[buffer].dense && all_[buffer].within < 0; }
  /// Columns of a wider buffer that are taken.
  int64_t end_of(int outer) const;
  void append(int outer, int inner);
  void set_bytes(Buffer& buffer) const;

  std::vector<Buffer>& all_;
  const PlanOptions& options_;
  const bool joins_;
  std::map<int, int> tails_;  // by the buffer before them
};

}  // namespace lowrank
