// The text of a PTX module taken apart: kernels, variables, and statements whose operands are still words.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lowrank::test::ptx {

/// Text that is no PTX that this interpreter knows. The message names the line of the PTX.
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Space : uint8_t { generic, global, shared, local, constant, param };

/// `.shared .align 16 .b8 tile[10240]` and the like.
struct Variable {
  std::string name;
  Space space = Space::generic;
  int64_t align = 1;
  int64_t bytes = 0;
  bool dynamic = false;          // an array of no size: its bytes come with the launch
  int64_t offset = 0;            // of a parameter in the bytes of the launch
  std::vector<std::byte> value;  // initial bytes, as many as `bytes`
};

struct Register {
  std::string type;  // "pred", "b32", "f64", ...
  int bytes = 0;     // 0 for a predicate
};

struct Statement {
  std::string guard;  // name of the predicate's register, or empty
  bool guard_not = false;
  std::string opcode;  // with its modifiers
  std::vector<std::string> operands;
  std::string text;
  int scope = 0;
  int line = 0;         // in the PTX
  int source_file = 0;  // .loc, or 0
  int source_line = 0;
};

/// A pair of braces in a kernel; names are looked up from the inside outwards.
struct Scope {
  int parent = -1;
  std::unordered_map<std::string, Register> registers;
  std::unordered_map<std::string, int> labels;  // number of a statement
  std::unordered_map<std::string, std::vector<std::string>> branch_targets;
};

struct KernelText {
  std::string name;
  std::vector<Variable> params;
  int64_t param_bytes = 0;
  std::vector<Variable> variables;  // shared, local, constant
  std::vector<Scope> scopes;
  std::vector<Statement> statements;
  std::vector<int64_t> most_threads;   // .maxntid
  std::vector<int64_t> exact_threads;  // .reqntid
};

struct ModuleText {
  std::vector<KernelText> kernels;
  std::vector<Variable> variables;
  std::unordered_map<int, std::string> files;  // .file
};

ModuleText parse(std::string_view text);

/// Bytes of a type such as "u32", "bf16x2"; 0 for "pred"; -1 for what is no type.
int type_bytes(std::string_view type);

/// The bits of an immediate: 12, -1, 0x1f, 0f3F800000, 0d3FF0000000000000, WARP_SZ.
bool parse_immediate(std::string_view word, uint64_t& bits);

}  // namespace lowrank::test::ptx
