// The context of a job: the threads that run it, and how it learns that it was canceled.
#pragma once

#include <atomic>
#include <memory>

#include "core/pool.h"

namespace lowrank {

class Comm;
class Device;

/// Set by JavaScript's thread, read by a job between its steps.
using CancelFlag = std::shared_ptr<std::atomic<bool>>;

/// Context of a job; valid during the job.
struct Context {
  Pool& pool;
  Device& device;
  Comm* comm = nullptr;  // ranks of this process's run; null in a dry run
};

}  // namespace lowrank
