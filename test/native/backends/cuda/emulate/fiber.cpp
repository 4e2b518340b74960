#include "backends/cuda/emulate/fiber.h"

#include <sys/mman.h>

#include <new>

extern "C" void lowrank_switch_stack(void** from, void* to);
// What the calling convention has a function keep goes onto the old stack.
asm(R"(
.text
.globl lowrank_switch_stack
.hidden lowrank_switch_stack
.type lowrank_switch_stack, @function
lowrank_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size lowrank_switch_stack, .-lowrank_switch_stack
)");

namespace lowrank::cuda::emulate {
namespace {

/// The stack that fibers are entered from.
struct Base {
  void* stack_pointer = nullptr;
  void* fake = nullptr;
  const void* bottom = nullptr;
  size_t bytes = 0;
} base;

}  // namespace

Stacks::~Stacks() { release(); }

void Stacks::release() {
  if (!begin_) return;
  // Whoever is given these pages next finds no red zones of frames that are gone.
  unpoison(begin_, count_ * kBytes);
  munmap(begin_, count_ * kBytes);
}

void Stacks::reserve(size_t count) {
  if (count > count_) {
    release();
    void* const at =
        mmap(nullptr, count * kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    begin_ = static_cast<std::byte*>(at);
    count_ = count;
    for (size_t i = 0; i < count; ++i) mprotect(begin_ + i * kBytes, kGuard, PROT_NONE);
  }
}

void Fiber::start(std::byte* stack, void (*entry)()) {
  unpoison(stack, Stacks::kUsable);
  stack_ = stack;
  fake_ = nullptr;
  auto** top = reinterpret_cast<void**>(stack + Stacks::kUsable - 64);
  *--top = nullptr;  // the caller that entry does not have
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointer_ = top;
}

void Fiber::enter() {
#if LOWRANK_ASAN
  __sanitizer_start_switch_fiber(&base.fake, stack_, Stacks::kUsable);
#endif
  lowrank_switch_stack(&base.stack_pointer, stack_pointer_);
#if LOWRANK_ASAN
  __sanitizer_finish_switch_fiber(base.fake, nullptr, nullptr);
#endif
}

void Fiber::leave([[maybe_unused]] bool for_good) {
#if LOWRANK_ASAN
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_, base.bottom, base.bytes);
#endif
  lowrank_switch_stack(&stack_pointer_, base.stack_pointer);
#if LOWRANK_ASAN
  __sanitizer_finish_switch_fiber(fake_, &base.bottom, &base.bytes);
#endif
}

void Fiber::arrived() {
#if LOWRANK_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &base.bottom, &base.bytes);
#endif
}

}  // namespace lowrank::cuda::emulate
