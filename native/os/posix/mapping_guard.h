// Keeps the process alive when a mapped file can no longer be read: because somebody cut it short, or its disk or
// server failed. The system then sends SIGBUS to the thread that touches a page of it. A handler puts zeros in the
// place of the pages and notes that they are not the file's, so that whoever computed with them can throw the result
// away.
#pragma once

#include <cstdint>

namespace lowrank::os {

struct GuardedRange;

/// Guards a mapping for as long as it lives. A SIGBUS at any other address goes where it went before.
class MappingGuard {
 public:
  /// @param bytes of a mapping that begins with a page
  MappingGuard(const void* data, int64_t bytes);
  MappingGuard(const MappingGuard&) = delete;
  MappingGuard& operator=(const MappingGuard&) = delete;
  /// To be called before the mapping goes.
  ~MappingGuard();

  /// True if pages were replaced by zeros. Never false again.
  bool broken() const;

 private:
  GuardedRange* range_;
};

}  // namespace lowrank::os
