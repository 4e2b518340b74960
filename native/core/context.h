// The context of a job: the threads that run it, and how it learns that it was canceled.
#pragma once

#include <atomic>
#include <memory>

#include "core/pool.h"

namespace lowrank {

class Device;

/// Set by JavaScript's thread, read by a job between its steps.
using CancelFlag = std::shared_ptr<std::atomic<bool>>;

/// Context of a job; valid during the job.
struct Context {
  Pool& pool;
  Device& device;
};

}  // namespace lowrank
