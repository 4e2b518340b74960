#include "backends/cuda/ptx/machine.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace lowrank::test::ptx {
namespace {

constexpr uint32_t kMostSteps = 50;  // of a group in the random order, before another has its turn

std::string named(Dimensions d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

/// Random bits to begin with: the same pool from another place each time.
void scramble(std::byte* begin, size_t bytes, std::mt19937_64& random) {
  static const std::vector<uint64_t> pool = [] {
    std::mt19937_64 draw(7);
    std::vector<uint64_t> words(1 << 13);
    for (uint64_t& word : words) word = draw();
    return words;
  }();
  const size_t pool_bytes = pool.size() * sizeof(uint64_t);
  for (size_t at = 0; at < bytes;) {
    const size_t from = random() % (pool_bytes / 2) / 8 * 8;
    const size_t part = std::min(bytes - at, pool_bytes - from);
    std::memcpy(begin + at, reinterpret_cast<const std::byte*>(pool.data()) + from, part);
    at += part;
  }
}

}  // namespace

std::string Kernel::describe(uint32_t pc) const {
  const Statement& statement = text.statements[static_cast<size_t>(code[pc].statement)];
  std::string where = "line " + std::to_string(statement.line) + " of the PTX";
  if (const auto file = files->find(statement.source_file); statement.source_line > 0 && file != files->end()) {
    where =
        file->second.substr(file->second.rfind('/') + 1) + ":" + std::to_string(statement.source_line) + ", " + where;
  }
  return "'" + statement.text + "' (" + where + ")";
}

void Block::fault(const char* kind, const Warp& warp, int lane, const std::string& what) const {
  throw Fault(kind, kernel.text.name + ", block " + named(index) + ", thread " +
                        std::to_string(warp.index * kLanes + lane) + ": " + what + " in " + kernel.describe(warp.pc));
}

std::byte* Block::resolve(Warp& warp, int lane, Space& space, uint64_t& address, int bytes, bool write) {
  if (space == Space::generic) {
    const uint64_t window = address >> 56 << 56;
    space = window == kSharedWindow     ? Space::shared
            : window == kLocalWindow    ? Space::local
            : window == kParamWindow    ? Space::param
            : window == kConstantWindow ? Space::constant
                                        : Space::global;
    if (space != Space::global) address &= (uint64_t{1} << 56) - 1;
  }
  if (address % static_cast<uint64_t>(bytes) != 0) {
    fault("alignment", warp, lane, std::to_string(bytes) + " bytes at address " + std::to_string(address));
  }
  const auto inside = [&](const char* name, size_t size) {
    if (address > size || static_cast<size_t>(bytes) > size - address) {
      fault("bounds", warp, lane,
            std::to_string(bytes) + " bytes at " + std::to_string(static_cast<int64_t>(address)) + " of " +
                std::to_string(size) + " of " + name + " memory");
    }
  };
  switch (space) {
    case Space::global: {
      if (address < last.begin || address + static_cast<uint64_t>(bytes) > last.end) {
        const Memory::Allocation* found = launch.memory.find(address, bytes);
        if (!found) found = kernel.globals->find(address, bytes);
        if (!found) {
          fault("bounds", warp, lane,
                std::to_string(bytes) + " bytes of global memory " + launch.memory.describe(address));
        }
        last = *found;
      }
      if (write && !last.writable) fault("bounds", warp, lane, "a store to read-only memory");
      return reinterpret_cast<std::byte*>(address);
    }
    case Space::shared: {
      inside("shared", shared.size());
      for (int i = 0; i < bytes; ++i) {
        if (!shared_valid[address + static_cast<uint64_t>(i)]) {
          fault("bounds", warp, lane,
                std::to_string(bytes) + " bytes at " + std::to_string(address) + ", in no array of shared memory");
        }
      }
      return shared.data() + address;
    }
    case Space::local:
      inside("local", static_cast<size_t>(kernel.local_bytes));
      return warp.local.data() + lane * kernel.local_bytes + address;
    case Space::constant:
    case Space::param: {
      if (write) fault("bounds", warp, lane, "a store to constant memory");
      const bool is_param = space == Space::param;
      inside(is_param ? "parameter" : "constant", is_param ? launch.args.size() : kernel.constant_bytes.size());
      return const_cast<std::byte*>((is_param ? launch.args.data() : kernel.constant_bytes.data()) + address);
    }
    case Space::generic:
      break;
  }
  return nullptr;
}

std::byte* Block::touch(Warp& warp, int lane, Space space, uint64_t address, int bytes, bool write) {
  std::byte* at = resolve(warp, lane, space, address, bytes, write);
  if (!launch.options.races || (space != Space::global && space != Space::shared)) return at;
  const bool is_global = space == Space::global;
  Shadow& shadow = is_global ? launch.global_shadow : shared_shadow;
  Access other;
  const auto conflict = shadow.touch(address, bytes, write, access(warp, lane), is_global, other);
  if (conflict == Shadow::Conflict::none) return at;
  std::string earlier = " and an earlier access by thread " + std::to_string(other.thread);
  if (other.block != sequence) earlier += " of another block";
  if (other.pc < kernel.code.size()) earlier += ", " + kernel.describe(other.pc) + ",";
  if (conflict == Shadow::Conflict::race) {
    fault("race", warp, lane,
          std::string(is_global ? "global" : "shared") + " memory at " + std::to_string(address) + ": a " +
              (write ? "write" : "read") + earlier + " are ordered by nothing: the later is");
  }
  fault("copy in flight", warp, lane,
        "shared memory at " + std::to_string(address) +
            " is accessed before its cp.async was waited for; copied by thread " + std::to_string(other.thread) +
            " in " + kernel.describe(other.pc) + "; accessed");
}

void Block::begin_copy(Warp& warp, int lane, Copy copy) {
  copy.group = warp.copy_groups[static_cast<size_t>(lane)];
  copy.pc = warp.pc;
  std::byte* to = touch(warp, lane, Space::shared, copy.shared, copy.bytes, true);
  if (copy.filled > 0) {
    // The address must fit the whole size; only the bytes in use must be there.
    if (copy.global % copy.bytes != 0) {
      fault("alignment", warp, lane, "cp.async from address " + std::to_string(copy.global));
    }
    for (int at = 0; at < copy.filled;) {
      const int part = static_cast<int>(std::bit_floor(static_cast<uint32_t>(copy.filled - at)));
      touch(warp, lane, Space::global, copy.global + static_cast<uint64_t>(at), part, false);
      at += part;
    }
  }
  copy.late = launch.options.threads == Order::random ? launch.random() % 2 == 0 : launch.options.late_copies;
  if (!copy.late) {
    std::memset(to, 0, copy.bytes);
    if (copy.filled > 0) std::memcpy(to, reinterpret_cast<const void*>(copy.global), copy.filled);
  }
  if (launch.options.races) shared_shadow.hold(copy.shared, copy.bytes, access(warp, lane));
  warp.copies[static_cast<size_t>(lane)].push_back(copy);
}

void Block::finish_copies(Warp& warp, int lane, uint32_t before_group) {
  auto& copies = warp.copies[static_cast<size_t>(lane)];
  std::erase_if(copies, [&](const Copy& copy) {
    if (copy.group >= before_group) return false;
    if (copy.late) {
      std::memset(shared.data() + copy.shared, 0, copy.bytes);
      if (copy.filled > 0) {
        std::memcpy(shared.data() + copy.shared, reinterpret_cast<const void*>(copy.global), copy.filled);
      }
    }
    if (launch.options.races) {
      Access at = access(warp, lane);
      at.pc = copy.pc;
      shared_shadow.settle(copy.shared, copy.bytes, at);
    }
    return true;
  });
}

void Block::start() {
  threads = launch.block.x * launch.block.y * launch.block.z;
  int64_t shared_bytes = 0;
  for (const Kernel::Place& place : kernel.shared) {
    shared_bytes = std::max(shared_bytes, place.begin + (place.dynamic ? launch.shared_bytes : place.bytes));
  }
  shared.assign(static_cast<size_t>(shared_bytes), std::byte{0xff});  // a NaN in every floating-point type
  shared_valid.assign(static_cast<size_t>(shared_bytes), 0);
  for (const Kernel::Place& place : kernel.shared) {
    const int64_t bytes = place.dynamic ? launch.shared_bytes : place.bytes;
    std::fill_n(shared_valid.begin() + place.begin, bytes, uint8_t{1});
  }
  const auto count = static_cast<size_t>((threads + kLanes - 1) / kLanes);
  warps.resize(count);
  registers_.resize(count * kernel.register_bytes + 64);
  epoch = 0;
  for (size_t w = 0; w < count; ++w) {
    Warp& warp = warps[w];
    warp.index = static_cast<int>(w);
    const int64_t lanes = std::min<int64_t>(kLanes, threads - static_cast<int64_t>(w) * kLanes);
    warp.exists = warp.live = lanes == kLanes ? kAllLanes : (1u << lanes) - 1;
    warp.groups.assign(1, {0, warp.live, Group::State::ready});
    warp.slots = registers_.data() + w * kernel.register_bytes;
    warp.epoch = 0;
    for (auto& copies : warp.copies) copies.clear();
    warp.copy_groups.fill(0);
    warp.local.resize(static_cast<size_t>(kernel.local_bytes) * kLanes);
    scramble(warp.local.data(), warp.local.size(), launch.random);
    scramble(warp.slots + kernel.first_register, kernel.register_bytes - kernel.first_register, launch.random);
    for (const Constant& constant : kernel.constants) {
      const int lanes_of_it = constant.bytes == 0 ? 1 : kLanes;
      const size_t bytes = constant.bytes == 0 ? 4 : static_cast<size_t>(constant.bytes);
      for (int lane = 0; lane < lanes_of_it; ++lane) {
        std::memcpy(warp.slots + constant.slot + static_cast<size_t>(lane) * bytes, &constant.bits, bytes);
      }
    }
    const auto special = [&](Special which, auto value) {
      const uint32_t slot = kernel.specials[static_cast<size_t>(which)];
      if (slot == kNone) return;
      for (int lane = 0; lane < kLanes; ++lane) {
        warp.at<uint32_t>(slot)[lane] = static_cast<uint32_t>(value(static_cast<int64_t>(w) * kLanes + lane, lane));
      }
    };
    const Dimensions b = launch.block, g = launch.grid;
    special(Special::tid_x, [&](int64_t t, int) { return t % b.x; });
    special(Special::tid_y, [&](int64_t t, int) { return t / b.x % b.y; });
    special(Special::tid_z, [&](int64_t t, int) { return t / b.x / b.y; });
    const auto same = [&](Special which, int64_t value) { special(which, [value](int64_t, int) { return value; }); };
    same(Special::ntid_x, b.x);
    same(Special::ntid_y, b.y);
    same(Special::ntid_z, b.z);
    same(Special::ctaid_x, index.x);
    same(Special::ctaid_y, index.y);
    same(Special::ctaid_z, index.z);
    same(Special::nctaid_x, g.x);
    same(Special::nctaid_y, g.y);
    same(Special::nctaid_z, g.z);
    same(Special::warpid, warp.index);
    same(Special::nwarpid, static_cast<int64_t>(count));
    same(Special::dynamic_smem_size, launch.shared_bytes);
    special(Special::laneid, [](int64_t, int lane) { return lane; });
    special(Special::lanemask_eq, [](int64_t, int lane) { return 1u << lane; });
    special(Special::lanemask_lt, [](int64_t, int lane) { return (1u << lane) - 1; });
    special(Special::lanemask_le, [](int64_t, int lane) { return (2u << lane) - 1; });
    special(Special::lanemask_gt, [](int64_t, int lane) { return ~((2u << lane) - 1); });
    special(Special::lanemask_ge, [](int64_t, int lane) { return ~((1u << lane) - 1); });
  }
}

void Block::run() {
  start();
  std::vector<size_t> order(warps.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (launch.options.threads == Order::reverse) std::reverse(order.begin(), order.end());
  const auto ended = [&] {
    return std::all_of(warps.begin(), warps.end(), [](const Warp& warp) { return warp.live == 0; });
  };
  const auto is_ready = [](const Warp& warp) {
    return std::any_of(warp.groups.begin(), warp.groups.end(),
                       [](const Group& group) { return group.state == Group::State::ready; });
  };
  while (!ended()) {
    if (launch.options.threads == Order::random) std::shuffle(order.begin(), order.end(), launch.random);
    bool ran = false;
    for (const size_t w : order) {
      if (!is_ready(warps[w])) continue;
      run_warp(warps[w]);
      ran = true;
    }
    if (!ran) deadlock();
    release_barrier();
  }
}

size_t Block::choose(Warp& warp) {
  std::vector<Group>& groups = warp.groups;
  size_t chosen = groups.size();
  size_t seen = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].state != Group::State::ready) continue;
    ++seen;
    const bool better =
        chosen == groups.size() || (launch.options.threads == Order::forward   ? groups[i].pc < groups[chosen].pc
                                    : launch.options.threads == Order::reverse ? groups[i].pc > groups[chosen].pc
                                                                               : launch.random() % seen == 0);
    if (better) chosen = i;
  }
  return chosen;
}

bool Block::join(Warp& warp, size_t& current) {
  std::vector<Group>& groups = warp.groups;
  bool joined = false;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (i == current || groups[i].pc != groups[current].pc || groups[i].state == Group::State::at_barrier) continue;
    groups[current].lanes |= groups[i].lanes;
    groups[current].state = Group::State::ready;
    groups.erase(groups.begin() + static_cast<ptrdiff_t>(i));
    if (i < current) --current;
    --i;
    joined = true;
  }
  return joined;
}

bool Block::complete(Warp& warp, const Instruction& instruction, uint32_t lanes) {
  if (instruction.kind == Kind::barrier || instruction.whole_warp) {
    if (lanes != warp.live) return false;
    // The manual asks for all lanes of the warp, also for those that returned before.
    if (lanes != warp.exists)
      fault("divergence", warp, std::countr_zero(warp.exists & ~lanes), "the thread ended before");
    return true;
  }
  for (uint32_t rest = lanes; rest != 0;) {
    const int lane = __builtin_ctz(rest);
    const uint32_t mask = warp.at<uint32_t>(instruction.mask)[lane];
    if (!(mask >> lane & 1)) fault("divergence", warp, lane, "the thread is not in its own mask");
    if ((mask & warp.live & ~lanes) != 0) return false;
    uint32_t same = 0;
    for (uint32_t other = rest; other != 0; other &= other - 1) {
      const int l = __builtin_ctz(other);
      if (warp.at<uint32_t>(instruction.mask)[l] == mask) same |= 1u << l;
    }
    if ((mask & warp.live) != same) fault("divergence", warp, lane, "threads name each other in different masks");
    rest &= ~same;
  }
  return true;
}

void Block::run_warp(Warp& warp) {
  const Order order = launch.options.threads;
  const Instruction* const code = kernel.code.data();
  std::vector<Group>& groups = warp.groups;
  for (size_t current = choose(warp); current < groups.size(); current = choose(warp)) {
    uint32_t steps = order == Order::random ? 1 + static_cast<uint32_t>(launch.random() % kMostSteps) : ~0u;
    while (true) {
      if (groups.size() > 1) {
        join(warp, current);
        // Another group is behind in this order: it goes first, so that they meet.
        if (groups.size() > 1 && (order == Order::random ? steps == 0 : choose(warp) != current)) break;
      }
      if (steps == 0) return;  // another warp's turn
      if (order == Order::random) --steps;
      Group& group = groups[current];
      const uint32_t pc = group.pc;
      const Instruction& instruction = code[pc];
      warp.pc = pc;
      uint32_t lanes = group.lanes;
      if (instruction.guard != kNone) {
        const uint32_t guard = warp.predicate(instruction.guard);
        lanes &= instruction.guard_not ? ~guard : guard;
      }
      launch.report.warp_instructions += 1;
      launch.report.instructions += std::popcount(lanes);
      if (instruction.kind == Kind::plain) {
        if (lanes != 0) instruction.run(*this, warp, instruction, lanes);
        group.pc = pc + 1;
        continue;
      }
      if (lanes == 0) {
        group.pc = pc + 1;
        continue;
      }
      if (lanes != group.lanes) {
        // Lanes whose guard does not hold go on.
        const uint32_t rest = group.lanes & ~lanes;
        group.lanes = lanes;
        groups.push_back({pc + 1, rest, Group::State::ready});
      }
      Group& here = groups[current];
      if (instruction.kind == Kind::branch) {
        here.pc = instruction.target;
      } else if (instruction.kind == Kind::branch_table) {
        const uint32_t* index = warp.at<uint32_t>(instruction.slots[0]);
        const uint32_t first = index[__builtin_ctz(lanes)];
        uint32_t same = 0;
        for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
          const int lane = __builtin_ctz(rest);
          if (index[lane] == first) same |= 1u << lane;
        }
        if (first >= instruction.targets.size()) fault("bounds", warp, __builtin_ctz(same), "no such branch target");
        const uint32_t others = lanes & ~same;
        here.lanes = same;
        here.pc = instruction.targets[first];
        if (others != 0) groups.push_back({pc, others, Group::State::ready});
      } else if (instruction.kind == Kind::exit) {
        warp.live &= ~lanes;
        groups.erase(groups.begin() + static_cast<ptrdiff_t>(current));
        // Who waited for these lanes need not any more.
        for (Group& other : groups) {
          if (other.state == Group::State::at_warp_sync) other.state = Group::State::ready;
        }
        break;
      } else if (!complete(warp, instruction, lanes)) {
        here.state = Group::State::at_warp_sync;
        break;
      } else if (instruction.kind == Kind::barrier) {
        here.state = Group::State::at_barrier;
        break;
      } else {
        instruction.run(*this, warp, instruction, lanes);
        here.pc = pc + 1;
      }
    }
  }
}

/// When all threads that have not ended are at the same barrier, it is passed.
void Block::release_barrier() {
  uint32_t pc = kNone;
  for (const Warp& warp : warps) {
    for (const Group& group : warp.groups) {
      if (group.state != Group::State::at_barrier) return;
      if (pc == kNone) pc = group.pc;
      const Instruction &a = kernel.code[pc], &b = kernel.code[group.pc];
      if (a.offset != b.offset || a.run != b.run) return;  // another barrier's number
    }
  }
  if (pc == kNone) return;
  ++epoch;
  // A barrier that also reduces a predicate: first all votes, then all results.
  const Instruction& barrier = kernel.code[pc];
  if (barrier.run) {
    uint32_t count = 0, voters = 0;
    for (Warp& warp : warps) {
      for (const Group& group : warp.groups) {
        const Instruction& own = kernel.code[group.pc];
        const uint32_t votes = warp.predicate(own.slots[1]) ^ (own.second_offset ? kAllLanes : 0);
        count += static_cast<uint32_t>(std::popcount(votes & group.lanes));
        voters += static_cast<uint32_t>(std::popcount(group.lanes));
      }
    }
    for (Warp& warp : warps) {
      for (const Group& group : warp.groups) {
        const Instruction& own = kernel.code[group.pc];
        if (own.variant == 0) {
          each(group.lanes, [&](int lane) { warp.at<uint32_t>(own.slots[0])[lane] = count; });
        } else {
          const bool holds = own.variant == 1 ? count == voters : count > 0;
          uint32_t& to = warp.predicate(own.slots[0]);
          to = holds ? to | group.lanes : to & ~group.lanes;
        }
      }
    }
  }
  for (Warp& warp : warps) {
    for (Group& group : warp.groups) {
      group.state = Group::State::ready;
      ++group.pc;
    }
  }
}

void Block::deadlock() {
  std::string waiting;
  bool divergent = false;
  Warp* first = nullptr;
  for (Warp& warp : warps) {
    for (const Group& group : warp.groups) {
      if (!first) {
        first = &warp;
        warp.pc = group.pc;
      }
      divergent |= group.state == Group::State::at_warp_sync;
      if (waiting.size() < 600) {
        waiting += "\n  " + std::to_string(std::popcount(group.lanes)) + " threads of warp " +
                   std::to_string(warp.index) + " wait at " + kernel.describe(group.pc);
      }
    }
  }
  fault(divergent ? "divergence" : "deadlock", *first, 0,
        "threads wait for each other:" + waiting + "\n  the first is");
}

}  // namespace lowrank::test::ptx
