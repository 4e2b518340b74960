#include "backends/cuda/ptx/text.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>

namespace lowrank::test::ptx {
namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%'; }

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  ModuleText run() {
    while (skip_space()) {
      if (text_[at_] != '.') fail("expected a directive");
      directive_of_module();
    }
    return std::move(module_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) {
    const std::string_view rest = text_.substr(at_, 40);
    throw Unsupported("PTX line " + std::to_string(line_) + ": " + what + " at '" +
                      std::string(rest.substr(0, rest.find('\n'))) + "'");
  }

  bool done() const { return at_ >= text_.size() || text_[at_] == '\0'; }

  void next() {
    if (text_[at_] == '\n') ++line_;
    ++at_;
  }

  /// Over spaces and comments; false at the end.
  bool skip_space() {
    while (!done()) {
      if (std::isspace(static_cast<unsigned char>(text_[at_]))) {
        next();
      } else if (text_.substr(at_, 2) == "//") {
        while (!done() && text_[at_] != '\n') next();
      } else if (text_.substr(at_, 2) == "/*") {
        while (!done() && text_.substr(at_, 2) != "*/") next();
        if (!done()) at_ += 2;
      } else {
        return true;
      }
    }
    return false;
  }

  bool take(char c) {
    if (!skip_space() || text_[at_] != c) return false;
    next();
    return true;
  }

  void expect(char c) {
    if (!take(c)) fail(std::string("expected '") + c + "'");
  }

  /// A name, or a directive with its dot; empty where there is neither.
  std::string word() {
    skip_space();
    std::string found;
    if (!done() && text_[at_] == '.') {
      found = ".";
      next();
    }
    while (!done() && is_word(text_[at_])) {
      found += text_[at_];
      next();
    }
    return found;
  }

  std::string peek_word() {
    const size_t at = at_;
    const int line = line_;
    std::string found = word();
    at_ = at;
    line_ = line;
    return found;
  }

  int64_t number() {
    uint64_t bits = 0;
    const std::string digits = word();
    if (!parse_immediate(digits, bits)) fail("expected a number, found '" + digits + "'");
    return static_cast<int64_t>(bits);
  }

  std::vector<int64_t> numbers() {
    std::vector<int64_t> found{number()};
    while (take(',')) found.push_back(number());
    return found;
  }

  void skip_line() {
    while (!done() && text_[at_] != '\n') next();
  }

  void skip_statement() {
    while (!done() && text_[at_] != ';') next();
    expect(';');
  }

  void skip_braces() {
    expect('{');
    for (int depth = 1; depth > 0; next()) {
      if (done()) fail("a brace is not closed");
      depth += text_[at_] == '{';
      depth -= text_[at_] == '}';
    }
  }

  void directive_of_module() {
    const size_t start = at_;
    const int start_line = line_;
    const std::string name = word();
    if (name == ".version" || name == ".target" || name == ".address_size") return skip_line();
    if (name == ".file") return file();
    if (name == ".section") {
      word();
      return skip_braces();
    }
    if (name == ".visible" || name == ".weak" || name == ".extern" || name == ".common") {
      if (const std::string next = peek_word(); next == ".entry" || next == ".func") return;
      return variable(module_.variables, name == ".extern");
    }
    if (name == ".entry") return kernel();
    if (name == ".func") return function();
    at_ = start;
    line_ = start_line;
    variable(module_.variables, false);
  }

  void file() {
    const int index = static_cast<int>(number());
    expect('"');
    std::string path;
    while (!done() && text_[at_] != '"') {
      path += text_[at_];
      next();
    }
    module_.files[index] = path;
    skip_line();
  }

  /// Functions are not called here; a call is not known as an opcode.
  void function() {
    while (!done() && text_[at_] != '{' && text_[at_] != ';') next();
    if (!done() && text_[at_] == '{') return skip_braces();
    expect(';');
  }

  /// `.shared .align 4 .b8 name[64] = {1, 2};` from its space on.
  void variable(std::vector<Variable>& list, bool external) {
    static const std::unordered_map<std::string, Space> spaces{
        {".global", Space::global}, {".shared", Space::shared}, {".const", Space::constant}, {".local", Space::local}};
    const std::string space = word();
    if (!spaces.contains(space)) fail("unknown directive '" + space + "' before this");
    Variable found;
    found.space = spaces.at(space);
    declaration(found);
    if (found.dynamic && !(external && found.space == Space::shared)) fail("an array without a size");
    if (take('=')) initial_value(found);
    expect(';');
    list.push_back(std::move(found));
  }

  /// Alignment, type, name and extent. A pointer parameter says more, which is not needed.
  void declaration(Variable& found) {
    int64_t element = 0;
    found.align = 0;
    for (std::string part = word();; part = word()) {
      if (part == ".align") {
        found.align = number();
      } else if (part == ".ptr") {
        for (part = peek_word(); part.starts_with('.'); part = peek_word()) {
          word();
          if (part == ".align") number();
        }
      } else if (part == ".attribute" || part == ".managed") {
        fail("unsupported attribute");
      } else if (part.starts_with('.')) {
        element = type_bytes(std::string_view(part).substr(1));
        if (element <= 0) fail("unknown type '" + part + "'");
      } else {
        found.name = part;
        break;
      }
    }
    if (found.name.empty() || element == 0) fail("expected a type and a name");
    if (found.align == 0) found.align = element;
    found.bytes = element;
    element_ = element;
    while (take('[')) {
      if (take(']')) {
        found.dynamic = true;
        found.bytes = 0;
      } else {
        found.bytes *= number();
        expect(']');
      }
    }
  }

  void initial_value(Variable& found) {
    found.value.assign(static_cast<size_t>(found.bytes), std::byte{});
    int64_t at = 0;
    auto one = [&] {
      skip_space();
      std::string digits;
      while (!done() && (is_word(text_[at_]) || text_[at_] == '-')) {
        digits += text_[at_];
        next();
      }
      uint64_t bits = 0;
      if (!parse_immediate(digits, bits)) fail("unsupported initial value '" + digits + "'");
      if (at + element_ > found.bytes) fail("too many initial values");
      std::memcpy(found.value.data() + at, &bits, static_cast<size_t>(element_));
      at += element_;
    };
    if (!take('{')) return one();
    if (take('}')) return;
    do one();
    while (take(','));
    expect('}');
  }

  void kernel() {
    KernelText found;
    found.name = word();
    kernel_ = &found;
    if (take('(') && !take(')')) {
      do {
        if (word() != ".param") fail("expected .param");
        Variable param;
        param.space = Space::param;
        declaration(param);
        found.param_bytes = (found.param_bytes + param.align - 1) / param.align * param.align;
        param.offset = found.param_bytes;
        found.param_bytes += param.bytes;
        found.params.push_back(std::move(param));
      } while (take(','));
      expect(')');
    }
    for (std::string name = peek_word(); !name.empty(); name = peek_word()) {
      word();
      if (name == ".maxntid") {
        found.most_threads = numbers();
      } else if (name == ".reqntid") {
        found.exact_threads = numbers();
      } else if (name == ".minnctapersm" || name == ".maxnreg") {
        number();
      } else {
        fail("unknown directive '" + name + "' of a kernel");
      }
    }
    file_ = source_line_ = 0;
    expect('{');
    scope_ = open(-1);
    while (scope_ >= 0) statement();
    module_.kernels.push_back(std::move(found));
  }

  int open(int parent) {
    kernel_->scopes.push_back({parent, {}, {}, {}});
    return static_cast<int>(kernel_->scopes.size()) - 1;
  }

  Scope& scope() { return kernel_->scopes[static_cast<size_t>(scope_)]; }

  void statement() {
    if (!skip_space()) fail("the kernel is not closed");
    if (take('{')) {
      scope_ = open(scope_);
      return;
    }
    if (take('}')) {
      scope_ = scope().parent;
      return;
    }
    if (take(';')) return;
    if (text_[at_] == '.') return directive_of_kernel();
    if (text_[at_] == '@') return instruction();
    const size_t start = at_;
    const int start_line = line_;
    const std::string name = word();
    if (take(':')) {
      if (peek_word() == ".branchtargets") {
        word();
        std::vector<std::string> targets;
        do targets.push_back(word());
        while (take(','));
        expect(';');
        scope().branch_targets[name] = std::move(targets);
      } else {
        scope().labels[name] = static_cast<int>(kernel_->statements.size());
      }
      return;
    }
    at_ = start;
    line_ = start_line;
    instruction();
  }

  void directive_of_kernel() {
    const std::string name = peek_word();
    if (name == ".reg") {
      word();
      registers();
    } else if (name == ".loc") {
      word();
      file_ = static_cast<int>(number());
      source_line_ = static_cast<int>(number());
      skip_line();
    } else if (name == ".pragma") {
      skip_statement();
    } else {
      variable(kernel_->variables, false);
    }
  }

  void registers() {
    const std::string type = word().substr(1);
    const int bytes = type_bytes(type);
    if (bytes < 0 || bytes > 8) fail("unsupported type of registers '" + type + "'");
    do {
      const std::string name = word();
      if (take('<')) {
        const int64_t count = number();
        expect('>');
        for (int64_t i = 0; i < count; ++i) scope().registers[name + std::to_string(i)] = {type, bytes};
      } else {
        scope().registers[name] = {type, bytes};
      }
    } while (take(','));
    expect(';');
  }

  void instruction() {
    Statement found;
    found.scope = scope_;
    found.line = line_;
    found.source_file = file_;
    found.source_line = source_line_;
    if (take('@')) {
      found.guard_not = take('!');
      found.guard = word();
    }
    skip_space();
    while (!done() && (is_word(text_[at_]) || text_[at_] == '.' || text_[at_] == ':')) {
      found.opcode += text_[at_];
      next();
    }
    if (found.opcode.empty()) fail("expected an instruction");
    std::string operand;
    int depth = 0;
    for (;; next()) {
      if (!skip_space()) fail("an instruction does not end");
      const char c = text_[at_];
      if (c == ';') break;
      depth += c == '{' || c == '[' || c == '(';
      depth -= c == '}' || c == ']' || c == ')';
      if (c == ',' && depth == 0) {
        found.operands.push_back(std::move(operand));
        operand.clear();
      } else {
        operand += c;
      }
    }
    expect(';');
    if (!operand.empty()) found.operands.push_back(std::move(operand));
    if (!found.guard.empty()) found.text = "@" + std::string(found.guard_not ? "!" : "") + found.guard + " ";
    found.text += found.opcode;
    for (size_t i = 0; i < found.operands.size(); ++i) found.text += (i == 0 ? " " : ", ") + found.operands[i];
    kernel_->statements.push_back(std::move(found));
  }

  std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
  int file_ = 0, source_line_ = 0;
  int64_t element_ = 0;  // bytes of an element of the last declaration
  int scope_ = -1;
  KernelText* kernel_ = nullptr;
  ModuleText module_;
};

}  // namespace

ModuleText parse(std::string_view text) { return Parser(text).run(); }

int type_bytes(std::string_view type) {
  static const std::unordered_map<std::string_view, int> bytes{
      {"pred", 0}, {"b8", 1},   {"u8", 1},  {"s8", 1},  {"b16", 2},   {"u16", 2}, {"s16", 2},
      {"f16", 2},  {"bf16", 2}, {"b32", 4}, {"u32", 4}, {"s32", 4},   {"f32", 4}, {"f16x2", 4},
      {"b64", 8},  {"u64", 8},  {"s64", 8}, {"f64", 8}, {"bf16x2", 4}};
  const auto found = bytes.find(type);
  return found == bytes.end() ? -1 : found->second;
}

bool parse_immediate(std::string_view word, uint64_t& bits) {
  if (word == "WARP_SZ") {
    bits = 32;
    return true;
  }
  const bool negative = word.starts_with('-');
  if (negative) word.remove_prefix(1);
  if (word.empty() || !std::isdigit(static_cast<unsigned char>(word[0]))) return false;
  int base = 10;
  if (word.size() > 1 && word[0] == '0') {
    const char kind = static_cast<char>(std::tolower(static_cast<unsigned char>(word[1])));
    const bool is_float = (kind == 'f' && word.size() == 10) || (kind == 'd' && word.size() == 18);
    if (kind == 'x' || is_float) {
      base = 16;
      word.remove_prefix(2);
    } else if (kind == 'b') {
      base = 2;
      word.remove_prefix(2);
    } else {
      base = 8;
      word.remove_prefix(1);
    }
  }
  if (word.ends_with('U')) word.remove_suffix(1);
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), bits, base);
  if (error != std::errc{} || end != word.data() + word.size()) return false;
  if (negative) bits = 0 - bits;
  return true;
}

}  // namespace lowrank::test::ptx
