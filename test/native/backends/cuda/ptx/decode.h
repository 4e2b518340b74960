// From statements to instructions. A decoder of an opcode takes its modifiers and operands one by one; whatever it
// leaves makes the statement unsupported.
#pragma once

#include "backends/cuda/ptx/machine.h"
#include "backends/cuda/ptx/number.h"

namespace lowrank::test::ptx {

class Decoder {
 public:
  Decoder(Kernel& kernel, const ModuleText& module, const std::unordered_map<std::string, const void*>& globals);
  void run();

  [[noreturn]] void fail(const std::string& why) const;

  // ---- modifiers
  /// Takes a modifier if it is there, wherever that is.
  bool take(std::string_view modifier);
  /// Takes the one of `names` that is there and gives its number, or `missing`; fails where that is -1.
  int take_one(std::initializer_list<std::string_view> names, int missing = -1);
  /// Takes the last modifier.
  std::string take_last();
  std::string take_type() { return take_last(); }
  void put_back(std::string modifier) { modifiers_.push_back(std::move(modifier)); }
  Rounding take_rounding();
  Space take_space();

  // ---- operands
  size_t operands() const { return statement_->operands.size(); }
  const std::string& operand(size_t i) const;
  void expect_operands(size_t least, size_t most) const;
  /// Slot of a register of exactly so many bytes, or of an immediate.
  uint32_t source(const std::string& word, int bytes);
  /// The same of whatever width the register has; immediates have `bytes`.
  uint32_t any_source(const std::string& word, int bytes, int& width);
  uint32_t target(const std::string& word, int bytes);
  uint32_t any_target(const std::string& word, int& width);
  /// A predicate, `negated` where it has a '!' before it.
  uint32_t predicate(std::string word, bool& negated);
  bool is_predicate(const std::string& word) const;
  uint32_t predicate_target(const std::string& word);
  int64_t immediate(const std::string& word) const;
  /// The words of {a, b}, or the word alone.
  static std::vector<std::string> list(const std::string& word);
  /// [register + offset]: puts the register into `slots[index]`.
  void address(const std::string& word, size_t index, int64_t& offset);
  std::vector<uint32_t> branch_table(const std::string& name) const;

  /// slots[i] = source of operand i for 1..count, slots[0] = target of operand 0, all of so many bytes.
  void registers(int count, int bytes);

  Instruction out;

 private:
  const Register* find_register(const std::string& name) const;
  const Variable* find_variable(const std::string& name) const;
  uint32_t slot_of(const std::string& name, const Register& of);
  uint32_t constant(uint64_t bits, int bytes);
  std::optional<uint64_t> symbol(const std::string& name) const;
  uint32_t label(const std::string& name, int scope) const;
  void place_variables();
  void one(const Statement& statement);

  Kernel& kernel_;
  const ModuleText& module_;
  const std::unordered_map<std::string, const void*>& globals_;
  std::unordered_map<std::string, uint64_t> addresses_;  // of variables, within their space
  const Statement* statement_ = nullptr;
  std::vector<std::string> modifiers_;
  std::map<std::pair<int, std::string>, uint32_t> slots_;  // by scope and name
  std::map<std::pair<uint64_t, int>, uint32_t> constants_;
  uint32_t constant_bytes_ = 0, register_bytes_ = 0;
};

using Decode = void (*)(Decoder&);
using OpcodeTable = std::unordered_map<std::string_view, Decode>;
void add_integer_opcodes(OpcodeTable& table);
void add_float_opcodes(OpcodeTable& table);
void add_compare_opcodes(OpcodeTable& table);
void add_convert_opcodes(OpcodeTable& table);
void add_memory_opcodes(OpcodeTable& table);
void add_control_opcodes(OpcodeTable& table);
void add_warp_opcodes(OpcodeTable& table);
void add_matrix_opcodes(OpcodeTable& table);

// ---- handlers of element-wise instructions: slots[0] = body(slots[1], ...), by lane

template <class T, class Body>
Handler unary(Body) {
  return [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
    T* d = w.at<T>(i.slots[0]);
    const T* a = w.at<T>(i.slots[1]);
    each(lanes, [=](int l) { d[l] = Body{}(a[l]); });
  };
}

template <class T, class Body>
Handler binary(Body) {
  return [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
    T* d = w.at<T>(i.slots[0]);
    const T *a = w.at<T>(i.slots[1]), *b = w.at<T>(i.slots[2]);
    each(lanes, [=](int l) { d[l] = Body{}(a[l], b[l]); });
  };
}

template <class T, class Body>
Handler ternary(Body) {
  return [](Block&, Warp& w, const Instruction& i, uint32_t lanes) {
    T* d = w.at<T>(i.slots[0]);
    const T *a = w.at<T>(i.slots[1]), *b = w.at<T>(i.slots[2]), *c = w.at<T>(i.slots[3]);
    each(lanes, [=](int l) { d[l] = Body{}(a[l], b[l], c[l]); });
  };
}

/// Calls body(T{}) with the C++ type of an integer type's name; false where it is none.
template <class Body>
bool with_integer(std::string_view type, Body body) {
  if (type == "u16" || type == "b16") return body(uint16_t{}), true;
  if (type == "s16") return body(int16_t{}), true;
  if (type == "u32" || type == "b32") return body(uint32_t{}), true;
  if (type == "s32") return body(int32_t{}), true;
  if (type == "u64" || type == "b64") return body(uint64_t{}), true;
  if (type == "s64") return body(int64_t{}), true;
  return false;
}

}  // namespace lowrank::test::ptx
