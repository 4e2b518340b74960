#include "backends/cuda/ptx/decode.h"

#include <algorithm>

namespace lowrank::test::ptx {
namespace {

const OpcodeTable& opcodes() {
  static const OpcodeTable table = [] {
    OpcodeTable made;
    add_integer_opcodes(made);
    add_float_opcodes(made);
    add_compare_opcodes(made);
    add_convert_opcodes(made);
    add_memory_opcodes(made);
    add_control_opcodes(made);
    add_warp_opcodes(made);
    add_matrix_opcodes(made);
    return made;
  }();
  return table;
}

const std::unordered_map<std::string_view, Special>& special_names() {
  static const std::unordered_map<std::string_view, Special> names{{"%tid.x", Special::tid_x},
                                                                   {"%tid.y", Special::tid_y},
                                                                   {"%tid.z", Special::tid_z},
                                                                   {"%ntid.x", Special::ntid_x},
                                                                   {"%ntid.y", Special::ntid_y},
                                                                   {"%ntid.z", Special::ntid_z},
                                                                   {"%ctaid.x", Special::ctaid_x},
                                                                   {"%ctaid.y", Special::ctaid_y},
                                                                   {"%ctaid.z", Special::ctaid_z},
                                                                   {"%nctaid.x", Special::nctaid_x},
                                                                   {"%nctaid.y", Special::nctaid_y},
                                                                   {"%nctaid.z", Special::nctaid_z},
                                                                   {"%laneid", Special::laneid},
                                                                   {"%warpid", Special::warpid},
                                                                   {"%nwarpid", Special::nwarpid},
                                                                   {"%lanemask_eq", Special::lanemask_eq},
                                                                   {"%lanemask_lt", Special::lanemask_lt},
                                                                   {"%lanemask_le", Special::lanemask_le},
                                                                   {"%lanemask_gt", Special::lanemask_gt},
                                                                   {"%lanemask_ge", Special::lanemask_ge},
                                                                   {"%dynamic_smem_size", Special::dynamic_smem_size}};
  return names;
}

/// The first address that has this alignment and none better.
int64_t least_aligned(int64_t from, int64_t align) {
  int64_t at = (from + align - 1) / align * align;
  if (at % (2 * align) == 0) at += align;
  return at;
}

bool mentions(const KernelText& kernel, const std::string& name) {
  const auto is_name = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$'; };
  for (const Statement& statement : kernel.statements) {
    for (const std::string& operand : statement.operands) {
      for (size_t at = operand.find(name); at != std::string::npos; at = operand.find(name, at + 1)) {
        const bool begins = at == 0 || !is_name(operand[at - 1]);
        const size_t end = at + name.size();
        if (begins && (end == operand.size() || !is_name(operand[end]))) return true;
      }
    }
  }
  return false;
}

}  // namespace

Decoder::Decoder(Kernel& kernel, const ModuleText& module, const std::unordered_map<std::string, const void*>& globals)
    : kernel_(kernel), module_(module), globals_(globals) {}

void Decoder::fail(const std::string& why) const {
  throw Unsupported("line " + std::to_string(statement_->line) + " of the PTX, kernel " + kernel_.text.name + ": '" +
                    statement_->text + "': " + why);
}

void Decoder::run() {
  kernel_.specials.fill(kNone);
  place_variables();
  // Constants come before registers, but both are found on the way: registers begin behind room for all constants.
  size_t words = static_cast<size_t>(Special::count);
  for (const Statement& statement : kernel_.text.statements) words += 4 * statement.operands.size() + 8;
  kernel_.first_register = static_cast<uint32_t>(std::min<size_t>(words * 256, 64 << 20));
  // The room is only counted so: what is not used is taken away below.
  for (const Statement& statement : kernel_.text.statements) one(statement);
  const uint32_t gap = kernel_.first_register - constant_bytes_;
  const auto shift = [&](uint32_t& slot) {
    if (slot != kNone && slot >= kernel_.first_register) slot -= gap;
  };
  for (Instruction& instruction : kernel_.code) {
    for (uint32_t& slot : instruction.slots) shift(slot);
    shift(instruction.guard);
    shift(instruction.mask);
  }
  kernel_.register_bytes = constant_bytes_ + register_bytes_;
  kernel_.first_register = constant_bytes_;
  // Running off the end is as good as returning.
  Instruction last;
  last.kind = Kind::exit;
  last.statement = static_cast<int>(kernel_.text.statements.size()) - 1;
  kernel_.code.push_back(last);
}

void Decoder::place_variables() {
  int64_t top = 1024;  // no array begins at a null pointer
  int64_t local = 0;
  std::vector<const Variable*> dynamic;
  const auto place = [&](const Variable& variable) {
    if (!mentions(kernel_.text, variable.name)) return;
    if (variable.space == Space::shared && variable.dynamic) {
      dynamic.push_back(&variable);
    } else if (variable.space == Space::shared) {
      const int64_t begin = least_aligned(top, variable.align);
      kernel_.shared.push_back({begin, variable.bytes, variable.align, false});
      kernel_.limits.shared_bytes += variable.bytes;
      addresses_[variable.name] = static_cast<uint64_t>(begin);
      top = begin + variable.bytes + 16;
    } else if (variable.space == Space::local) {
      local = least_aligned(local + 16, variable.align);
      addresses_[variable.name] = static_cast<uint64_t>(local);
      local += variable.bytes;
    } else if (variable.space == Space::constant) {
      std::vector<std::byte>& bytes = kernel_.constant_bytes;
      bytes.resize(static_cast<size_t>(least_aligned(static_cast<int64_t>(bytes.size()) + 16, variable.align)));
      addresses_[variable.name] = bytes.size();
      bytes.insert(bytes.end(), variable.value.begin(), variable.value.end());
    }
  };
  for (const Variable& variable : module_.variables) place(variable);
  for (const Variable& variable : kernel_.text.variables) place(variable);
  int64_t align = 1;
  for (const Variable* variable : dynamic) align = std::max(align, variable->align);
  if (!dynamic.empty()) {
    const int64_t begin = least_aligned(top, align);
    kernel_.shared.push_back({begin, 0, align, true});
    kernel_.limits.dynamic_shared = true;
    for (const Variable* variable : dynamic) addresses_[variable->name] = static_cast<uint64_t>(begin);
  }
  kernel_.local_bytes = local;
  for (const Variable& param : kernel_.text.params) addresses_[param.name] = static_cast<uint64_t>(param.offset);
  for (const auto& [name, address] : globals_) addresses_[name] = reinterpret_cast<uint64_t>(address);
}

void Decoder::one(const Statement& statement) {
  statement_ = &statement;
  out = {};
  out.statement = static_cast<int>(&statement - kernel_.text.statements.data());
  modifiers_.clear();
  std::string_view rest = statement.opcode;
  const std::string_view name = rest.substr(0, rest.find('.'));
  rest.remove_prefix(std::min(rest.size(), name.size() + 1));
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('.'), rest.size());
    modifiers_.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(rest.size(), end + 1));
  }
  const auto decode = opcodes().find(name);
  if (decode == opcodes().end()) fail("unknown opcode");
  if (!statement.guard.empty()) {
    bool negated = false;
    out.guard = predicate(statement.guard, negated);
    out.guard_not = statement.guard_not;
  }
  decode->second(*this);
  if (!modifiers_.empty()) fail("unknown modifier ." + modifiers_.front());
  kernel_.code.push_back(std::move(out));
}

bool Decoder::take(std::string_view modifier) {
  const auto found = std::find(modifiers_.begin(), modifiers_.end(), modifier);
  if (found == modifiers_.end()) return false;
  modifiers_.erase(found);
  return true;
}

int Decoder::take_one(std::initializer_list<std::string_view> names, int missing) {
  int index = 0;
  for (const std::string_view name : names) {
    if (take(name)) return index;
    ++index;
  }
  if (missing < 0) fail("a modifier is missing or unknown");
  return missing;
}

std::string Decoder::take_last() {
  if (modifiers_.empty()) fail("a type is missing");
  std::string last = std::move(modifiers_.back());
  modifiers_.pop_back();
  return last;
}

Rounding Decoder::take_rounding() { return static_cast<Rounding>(take_one({"rn", "rz", "rm", "rp"}, 0)); }

Space Decoder::take_space() {
  if (take("shared::cta")) return Space::shared;
  constexpr Space spaces[] = {Space::global,   Space::shared, Space::local,
                              Space::constant, Space::param,  Space::generic};
  return spaces[take_one({"global", "shared", "local", "const", "param"}, 5)];
}

const std::string& Decoder::operand(size_t i) const {
  if (i >= operands()) fail("an operand is missing");
  return statement_->operands[i];
}

void Decoder::expect_operands(size_t least, size_t most) const {
  if (operands() < least || operands() > most) fail("unexpected number of operands");
}

const Register* Decoder::find_register(const std::string& name) const {
  for (int scope = statement_->scope; scope >= 0; scope = kernel_.text.scopes[static_cast<size_t>(scope)].parent) {
    const auto& registers = kernel_.text.scopes[static_cast<size_t>(scope)].registers;
    if (const auto found = registers.find(name); found != registers.end()) return &found->second;
  }
  return nullptr;
}

uint32_t Decoder::slot_of(const std::string& name, const Register& of) {
  // A register is known by where it is declared: the address of its declaration stands for scope and name.
  int scope = statement_->scope;
  while (!kernel_.text.scopes[static_cast<size_t>(scope)].registers.contains(name)) {
    scope = kernel_.text.scopes[static_cast<size_t>(scope)].parent;
  }
  const auto [found, is_new] = slots_.try_emplace({scope, name}, 0);
  if (is_new) {
    found->second = kernel_.first_register + register_bytes_;
    register_bytes_ += of.bytes == 0 ? 32 : static_cast<uint32_t>(of.bytes) * kLanes;
  }
  return found->second;
}

uint32_t Decoder::constant(uint64_t bits, int bytes) {
  if (bytes > 0 && bytes < 8) bits &= (uint64_t{1} << (8 * bytes)) - 1;
  const auto [found, is_new] = constants_.try_emplace({bits, bytes}, constant_bytes_);
  if (is_new) {
    kernel_.constants.push_back({constant_bytes_, bits, bytes});
    constant_bytes_ += bytes == 0 ? 32 : static_cast<uint32_t>(bytes) * kLanes;
  }
  return found->second;
}

std::optional<uint64_t> Decoder::symbol(const std::string& name) const {
  std::string base = name;
  uint64_t offset = 0;
  if (const size_t plus = name.find('+'); plus != std::string::npos) {
    base = name.substr(0, plus);
    if (!parse_immediate(std::string_view(name).substr(plus + 1), offset)) return std::nullopt;
  }
  const auto found = addresses_.find(base);
  if (found == addresses_.end()) return std::nullopt;
  return found->second + offset;
}

uint32_t Decoder::any_source(const std::string& word, int bytes, int& width) {
  if (const Register* found = find_register(word)) {
    if (found->bytes == 0) fail("'" + word + "' is a predicate");
    width = found->bytes;
    return slot_of(word, *found);
  }
  if (const auto special = special_names().find(word); special != special_names().end()) {
    width = 4;
    uint32_t& slot = kernel_.specials[static_cast<size_t>(special->second)];
    if (slot == kNone) {
      slot = constant_bytes_;
      constant_bytes_ += 4 * kLanes;
    }
    return slot;
  }
  width = bytes;
  uint64_t bits = 0;
  if (parse_immediate(word, bits)) {
    // A double where a float is wanted is a float written long.
    if (bytes == 4 && (word.starts_with("0d") || word.starts_with("0D"))) {
      bits = std::bit_cast<uint32_t>(static_cast<float>(std::bit_cast<double>(bits)));
    }
    return constant(bits, bytes);
  }
  if (const auto value = symbol(word)) return constant(*value, bytes);
  fail("unknown operand '" + word + "'");
}

uint32_t Decoder::source(const std::string& word, int bytes) {
  int width = 0;
  const uint32_t slot = any_source(word, bytes, width);
  if (width != bytes) fail("'" + word + "' has " + std::to_string(width) + " bytes; expected " + std::to_string(bytes));
  return slot;
}

uint32_t Decoder::any_target(const std::string& word, int& width) {
  if (word == "_") {
    // A sink: bits that nobody reads.
    width = 8;
    const auto [found, is_new] = slots_.try_emplace({-1, "_"}, 0);
    if (is_new) {
      found->second = kernel_.first_register + register_bytes_;
      register_bytes_ += 8 * kLanes;
    }
    return found->second;
  }
  const Register* found = find_register(word);
  if (!found || found->bytes == 0) fail("'" + word + "' is no register for this");
  width = found->bytes;
  return slot_of(word, *found);
}

uint32_t Decoder::target(const std::string& word, int bytes) {
  int width = 0;
  const uint32_t slot = any_target(word, width);
  if (width != bytes && word != "_") {
    fail("'" + word + "' has " + std::to_string(width) + " bytes; expected " + std::to_string(bytes));
  }
  return slot;
}

uint32_t Decoder::predicate(std::string word, bool& negated) {
  negated = word.starts_with('!');
  if (negated) word.erase(0, 1);
  if (const Register* found = find_register(word)) {
    if (found->bytes != 0) fail("'" + word + "' is no predicate");
    return slot_of(word, *found);
  }
  uint64_t bits = 0;
  if (!parse_immediate(word, bits)) fail("unknown predicate '" + word + "'");
  return constant(bits != 0 ? kAllLanes : 0, 0);
}

bool Decoder::is_predicate(const std::string& word) const {
  const Register* found = find_register(word.starts_with('!') ? word.substr(1) : word);
  return found && found->bytes == 0;
}

uint32_t Decoder::predicate_target(const std::string& word) {
  if (word == "_") {
    int width = 0;
    return any_target(word, width);
  }
  const Register* found = find_register(word);
  if (!found || found->bytes != 0) fail("'" + word + "' is no predicate");
  return slot_of(word, *found);
}

int64_t Decoder::immediate(const std::string& word) const {
  uint64_t bits = 0;
  if (!parse_immediate(word, bits)) fail("expected a number, found '" + word + "'");
  return static_cast<int64_t>(bits);
}

std::vector<std::string> Decoder::list(const std::string& word) {
  if (!word.starts_with('{')) return {word};
  std::vector<std::string> words;
  std::string part;
  for (const char c : word.substr(1, word.size() - 2) + ",") {
    if (c != ',') {
      part += c;
      continue;
    }
    words.push_back(std::move(part));
    part.clear();
  }
  return words;
}

void Decoder::address(const std::string& word, size_t index, int64_t& offset) {
  if (!word.starts_with('[') || !word.ends_with(']')) fail("expected an address, found '" + word + "'");
  std::string base = word.substr(1, word.size() - 2);
  offset = 0;
  if (const size_t plus = base.find_first_of("+-", 1); plus != std::string::npos) {
    const size_t digits = base[plus] == '+' ? plus + 1 : plus;
    offset = immediate(base.substr(digits));
    base.erase(plus);
  }
  int width = 0;
  out.slots[index] = any_source(base, 8, width);
  out.widths[index] = static_cast<uint8_t>(width);
  if (width < 4) fail("an address of " + std::to_string(width) + " bytes");
}

uint32_t Decoder::label(const std::string& name, int scope) const {
  for (; scope >= 0; scope = kernel_.text.scopes[static_cast<size_t>(scope)].parent) {
    const auto& labels = kernel_.text.scopes[static_cast<size_t>(scope)].labels;
    // One instruction comes of each statement.
    if (const auto found = labels.find(name); found != labels.end()) return static_cast<uint32_t>(found->second);
  }
  fail("unknown label '" + name + "'");
}

std::vector<uint32_t> Decoder::branch_table(const std::string& name) const {
  for (int scope = statement_->scope; scope >= 0; scope = kernel_.text.scopes[static_cast<size_t>(scope)].parent) {
    const Scope& at = kernel_.text.scopes[static_cast<size_t>(scope)];
    if (const auto found = at.branch_targets.find(name); found != at.branch_targets.end()) {
      std::vector<uint32_t> targets;
      for (const std::string& target : found->second) targets.push_back(label(target, scope));
      return targets;
    }
  }
  return {label(name, statement_->scope)};
}

void Decoder::registers(int count, int bytes) {
  expect_operands(static_cast<size_t>(count) + 1, static_cast<size_t>(count) + 1);
  out.slots[0] = target(operand(0), bytes);
  for (int i = 1; i <= count; ++i) out.slots[static_cast<size_t>(i)] = source(operand(static_cast<size_t>(i)), bytes);
}

}  // namespace lowrank::test::ptx
