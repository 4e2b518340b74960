#include "os/posix/mapping_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>

namespace lowrank::os {

/// Addresses [begin, end); an end of 0 is a range that is free.
struct GuardedRange {
  std::atomic<uintptr_t> begin{0}, end{0};
  std::atomic<bool> broken{false};
  GuardedRange* next = nullptr;
};

namespace {

/// A signal handler can take no locks: ranges are added in front, used again, and never freed.
std::atomic<GuardedRange*> ranges{nullptr};
std::mutex writing;
uintptr_t page = 0;
struct sigaction before{};

static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

/// Puts zeros where a guarded mapping cannot be read, from the page on to its end: what lies behind the end of the file
/// fails page after page.
bool replaced(uintptr_t address) {
  for (GuardedRange* range = ranges.load(); range != nullptr; range = range->next) {
    const uintptr_t end = range->end.load(), begin = range->begin.load();
    // The second look detects a range that was replaced in between.
    if (address < begin || address >= end || range->end.load() != end) continue;
    const uintptr_t first = address / page * page;
    range->broken = true;  // before any thread can read a zero
    return ::mmap(reinterpret_cast<void*>(first), end - first, PROT_READ,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
  }
  return false;
}

void pass_on(int signal, siginfo_t* info, void* context) {
  if ((before.sa_flags & SA_SIGINFO) != 0) return before.sa_sigaction(signal, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(signal);
  const bool sent = info->si_code <= 0;  // sent by a process: returning would not raise it again
  if (sent && before.sa_handler == SIG_IGN) return;
  ::sigaction(signal, &before, nullptr);
  if (sent) ::raise(signal);
}

void handle(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  if (info->si_code <= 0 || !replaced(reinterpret_cast<uintptr_t>(info->si_addr))) pass_on(signal, info, context);
  errno = error;
}

void install() {
  page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  ::sigaction(SIGBUS, nullptr, &before);
  struct sigaction own{};
  own.sa_sigaction = handle;
  own.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&own.sa_mask);  // a macro on macOS
  ::sigaction(SIGBUS, &own, nullptr);
}

/// One that is free, or a new one.
GuardedRange* free_range() {
  for (GuardedRange* range = ranges.load(); range != nullptr; range = range->next)
    if (range->end == 0) return range;
  auto* const range = new GuardedRange;
  range->next = ranges.load();
  ranges = range;
  return range;
}

}  // namespace

MappingGuard::MappingGuard(const void* data, int64_t bytes) {
  const std::lock_guard lock(writing);
  static const bool installed = (install(), true);
  (void)installed;
  range_ = free_range();
  range_->broken = false;
  range_->begin = reinterpret_cast<uintptr_t>(data);
  range_->end = reinterpret_cast<uintptr_t>(data) + (static_cast<uintptr_t>(bytes) + page - 1) / page * page;
}

MappingGuard::~MappingGuard() {
  const std::lock_guard lock(writing);
  range_->end = 0;
}

bool MappingGuard::broken() const { return range_->broken; }

}  // namespace lowrank::os
