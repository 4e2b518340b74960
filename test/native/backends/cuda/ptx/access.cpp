// Loads, stores, atomics, and cp.async.
#include <algorithm>
#include <type_traits>

#include "backends/cuda/ptx/decode.h"

namespace lowrank::test::ptx {
namespace {

uint64_t address_of(const Warp& w, const Instruction& i, size_t index, int64_t offset, int lane) {
  const uint64_t base =
      i.widths[index] == 4 ? w.at<uint32_t>(i.slots[index])[lane] : w.at<uint64_t>(i.slots[index])[lane];
  return base + static_cast<uint64_t>(offset);
}

/// Lanes in the order of the launch: stores to one place come in either.
template <class Body>
void in_order(const Block& block, uint32_t lanes, Body body) {
  if (block.launch.options.threads != Order::reverse) {
    for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) body(std::countr_zero(rest));
  } else {
    for (uint32_t rest = lanes; rest != 0;) {
      const int lane = 31 - std::countl_zero(rest);
      body(lane);
      rest &= ~(1u << lane);
    }
  }
}

void note(Block& block, const Warp& w, const Instruction& i, size_t index, Space space, int64_t offset, uint32_t lanes,
          int bytes, bool store) {
  if (space == Space::local) ++block.launch.report.local_accesses;
  if (!block.launch.options.traffic) return;
  uint64_t addresses[kLanes];
  each(lanes, [&](int l) { addresses[l] = address_of(w, i, index, offset, l); });
  block.note(w, space, addresses, lanes, bytes, store);
}

constexpr size_t kAddress = 8;  // slot of an address; elements come before it

template <class Memory, class Register>
void load(Block& block, Warp& w, const Instruction& i, uint32_t lanes) {
  const int total = i.bytes * i.count;
  note(block, w, i, kAddress, i.space, i.offset, lanes, total, false);
  in_order(block, lanes, [&](int l) {
    const uint64_t address = address_of(w, i, kAddress, i.offset, l);
    Space space = i.space;
    uint64_t resolved = address;
    const std::byte* from = i.variant ? block.resolve(w, l, space, resolved, total, false)
                                      : block.touch(w, l, space, address, total, false);
    for (size_t k = 0; k < i.count; ++k) {
      Memory value;
      std::memcpy(&value, from + k * sizeof value, sizeof value);
      w.at<Register>(i.slots[k])[l] = static_cast<Register>(value);
    }
  });
}

template <class Memory, class Register>
void store(Block& block, Warp& w, const Instruction& i, uint32_t lanes) {
  const int total = i.bytes * i.count;
  note(block, w, i, kAddress, i.space, i.offset, lanes, total, true);
  in_order(block, lanes, [&](int l) {
    const uint64_t address = address_of(w, i, kAddress, i.offset, l);
    Space space = i.space;
    uint64_t resolved = address;
    std::byte* to =
        i.variant ? block.resolve(w, l, space, resolved, total, true) : block.touch(w, l, space, address, total, true);
    for (size_t k = 0; k < i.count; ++k) {
      const auto value = static_cast<Memory>(w.at<Register>(i.slots[k])[l]);
      std::memcpy(to + k * sizeof value, &value, sizeof value);
    }
  });
}

template <class Memory>
Handler access_with(bool is_store, int width) {
  using U = std::make_unsigned_t<Memory>;
  // A wider register takes the sign of a signed type.
  using As2 = std::conditional_t<std::is_signed_v<Memory>, int16_t, uint16_t>;
  using As4 = std::conditional_t<std::is_signed_v<Memory>, int32_t, uint32_t>;
  using As8 = std::conditional_t<std::is_signed_v<Memory>, int64_t, uint64_t>;
  if (is_store) return width == 2 ? store<U, uint16_t> : width == 4 ? store<U, uint32_t> : store<U, uint64_t>;
  return width == 2 ? load<Memory, As2> : width == 4 ? load<Memory, As4> : load<Memory, As8>;
}

/// Hints to caches, which change nothing here.
void take_cache_hints(Decoder& d) {
  for (const char* hint : {"nc", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "L1::evict_normal", "L1::evict_unchanged",
                           "L1::evict_first", "L1::evict_last", "L1::no_allocate", "L2::64B", "L2::128B", "L2::256B"}) {
    d.take(hint);
  }
}

/// Whether the access is ordered by more than barriers: races with it are not looked for.
bool take_order(Decoder& d) {
  bool found = false;
  for (const char* order : {"volatile", "relaxed", "acquire", "release", "acq_rel"}) found |= d.take(order);
  for (const char* scope : {"cta", "gpu", "sys"}) d.take(scope);
  d.take("weak");
  return found;
}

void access(Decoder& d, bool is_store) {
  d.out.variant = take_order(d);
  d.out.space = d.take_space();
  take_cache_hints(d);
  constexpr int counts[] = {2, 4, 1};
  d.out.count = static_cast<uint8_t>(counts[d.take_one({"v2", "v4"}, 2)]);
  const std::string type = d.take_type();
  const int bytes = type_bytes(type);
  if (bytes < 1) d.fail("unsupported type ." + type);
  d.out.bytes = static_cast<uint8_t>(bytes);
  d.expect_operands(2, 2);
  d.address(d.operand(is_store ? 0 : 1), kAddress, d.out.offset);
  const auto words = Decoder::list(d.operand(is_store ? 1 : 0));
  if (words.size() != d.out.count) d.fail("unexpected number of elements");
  int width = 0;
  for (size_t k = 0; k < words.size(); ++k) {
    int own = 0;
    d.out.slots[k] = is_store ? d.any_source(words[k], std::max(bytes, 2), own) : d.any_target(words[k], own);
    if (own < bytes) d.fail("'" + words[k] + "' is too narrow");
    if (!is_store && words[k] == "_") own = std::max(bytes, 2);
    if (k > 0 && own != width) d.fail("elements of different widths");
    width = own;
  }
  const bool has_sign = type[0] == 's';
  if (bytes == 1) d.out.run = has_sign ? access_with<int8_t>(is_store, width) : access_with<uint8_t>(is_store, width);
  if (bytes == 2) d.out.run = has_sign ? access_with<int16_t>(is_store, width) : access_with<uint16_t>(is_store, width);
  if (bytes == 4) d.out.run = has_sign ? access_with<int32_t>(is_store, width) : access_with<uint32_t>(is_store, width);
  if (bytes == 8) d.out.run = access_with<uint64_t>(is_store, width);
}

enum class Atomic : uint8_t { add, min, max, and_, or_, xor_, exch, cas, inc, dec };

template <class T>
T updated(Atomic operation, T old, T b, T c) {
  using U = std::make_unsigned_t<T>;
  switch (operation) {
    case Atomic::add:
      return static_cast<T>(static_cast<U>(old) + static_cast<U>(b));
    case Atomic::min:
      return std::min(old, b);
    case Atomic::max:
      return std::max(old, b);
    case Atomic::and_:
      return old & b;
    case Atomic::or_:
      return old | b;
    case Atomic::xor_:
      return old ^ b;
    case Atomic::exch:
      return b;
    case Atomic::cas:
      return old == b ? c : old;
    case Atomic::inc:
      return old >= b ? T{0} : static_cast<T>(old + 1);
    case Atomic::dec:
      return old == 0 || old > b ? b : static_cast<T>(old - 1);
  }
  return old;
}

template <class T>
void atomic_update(Block& block, Warp& w, const Instruction& i, uint32_t lanes) {
  note(block, w, i, kAddress, i.space, i.offset, lanes, i.bytes, true);
  in_order(block, lanes, [&](int l) {
    uint64_t address = address_of(w, i, kAddress, i.offset, l);
    Space space = i.space;
    std::byte* at = block.resolve(w, l, space, address, i.bytes, true);
    T old;
    std::memcpy(&old, at, sizeof old);
    const T value = updated(static_cast<Atomic>(i.variant), old, w.at<T>(i.slots[1])[l], w.at<T>(i.slots[2])[l]);
    std::memcpy(at, &value, sizeof value);
    if (i.count) w.at<T>(i.slots[0])[l] = old;
  });
}

/// Atomic operations of integers only: sums of floating-point numbers would depend on the order of threads.
void atomic(Decoder& d, bool has_result) {
  take_order(d);
  d.out.space = d.take_space();
  const std::string type = d.take_type();
  d.out.variant =
      static_cast<uint8_t>(d.take_one({"add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"}));
  if (type_bytes(type) < 4 || type[0] == 'f') d.fail("unsupported type ." + type);
  const bool is_cas = static_cast<Atomic>(d.out.variant) == Atomic::cas;
  const size_t first = has_result ? 1 : 0, count = first + 2 + (is_cas ? 1 : 0);
  d.expect_operands(count, count);
  d.out.count = has_result;
  const bool known = with_integer(type, [&]<class T>(T) {
    d.out.bytes = sizeof(T);
    if (has_result) d.out.slots[0] = d.target(d.operand(0), sizeof(T));
    d.address(d.operand(first), kAddress, d.out.offset);
    d.out.slots[1] = d.source(d.operand(first + 1), sizeof(T));
    d.out.slots[2] = is_cas ? d.source(d.operand(first + 2), sizeof(T)) : d.out.slots[1];
    d.out.run = atomic_update<T>;
  });
  if (!known) d.fail("unsupported type ." + type);
}

constexpr size_t kFrom = 9;  // slot of a copy's source address

void copy(Block& block, Warp& w, const Instruction& i, uint32_t lanes) {
  note(block, w, i, kAddress, Space::shared, i.offset, lanes, i.bytes, true);
  const auto filled = [&](int l) {
    if (i.count == 1) return std::min<uint32_t>(w.at<uint32_t>(i.slots[0])[l], i.bytes);
    if (i.count == 2) return (w.predicate(i.slots[0]) ^ (i.variant ? kAllLanes : 0)) >> l & 1 ? 0u : uint32_t{i.bytes};
    return uint32_t{i.bytes};
  };
  uint32_t reading = 0;
  each(lanes, [&](int l) { reading |= static_cast<uint32_t>(filled(l) > 0) << l; });
  if (reading != 0) note(block, w, i, kFrom, Space::global, i.second_offset, reading, i.bytes, false);
  in_order(block, lanes, [&](int l) {
    Copy made;
    made.shared = address_of(w, i, kAddress, i.offset, l);
    made.global = address_of(w, i, kFrom, i.second_offset, l);
    made.bytes = i.bytes;
    made.filled = static_cast<uint8_t>(filled(l));
    block.begin_copy(w, l, made);
  });
}

void cp(Decoder& d) {
  if (!d.take("async")) d.fail("only cp.async is known");
  if (d.take("commit_group")) {
    d.expect_operands(0, 0);
    d.out.run = [](Block&, Warp& w, const Instruction&, uint32_t lanes) {
      each(lanes, [&](int l) { ++w.copy_groups[static_cast<size_t>(l)]; });
    };
    return;
  }
  const bool all = d.take("wait_all");
  if (all || d.take("wait_group")) {
    d.expect_operands(all ? 0 : 1, all ? 0 : 1);
    d.out.offset = all ? -1 : d.immediate(d.operand(0));
    d.out.run = [](Block& block, Warp& w, const Instruction& i, uint32_t lanes) {
      each(lanes, [&](int l) {
        const int64_t groups = w.copy_groups[static_cast<size_t>(l)];
        block.finish_copies(w, l, static_cast<uint32_t>(std::max<int64_t>(0, groups - i.offset)));
      });
    };
    return;
  }
  const bool whole_lines = d.take_one({"ca", "cg"}) == 1;
  const bool to_shared = d.take("shared") || d.take("shared::cta");
  if (!to_shared || !d.take("global")) d.fail("only copies from global to shared memory are known");
  take_cache_hints(d);
  d.expect_operands(3, 4);
  d.address(d.operand(0), kAddress, d.out.offset);
  d.address(d.operand(1), kFrom, d.out.second_offset);
  const int64_t bytes = d.immediate(d.operand(2));
  if (bytes != 16 && (whole_lines || (bytes != 4 && bytes != 8))) d.fail("unsupported size of a copy");
  d.out.bytes = static_cast<uint8_t>(bytes);
  if (d.operands() == 4) {
    // A number of bytes, or a predicate that drops them all.
    if (d.is_predicate(d.operand(3))) {
      bool negated = false;
      d.out.slots[0] = d.predicate(d.operand(3), negated);
      d.out.variant = negated;
      d.out.count = 2;
    } else {
      d.out.slots[0] = d.source(d.operand(3), 4);
      d.out.count = 1;
    }
  }
  d.out.run = copy;
}

}  // namespace

void add_memory_opcodes(OpcodeTable& table) {
  table["ld"] = [](Decoder& d) { access(d, false); };
  table["ldu"] = [](Decoder& d) { access(d, false); };
  table["st"] = [](Decoder& d) { access(d, true); };
  table["atom"] = [](Decoder& d) { atomic(d, true); };
  table["red"] = [](Decoder& d) { atomic(d, false); };
  table["cp"] = cp;
}

}  // namespace lowrank::test::ptx
