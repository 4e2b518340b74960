// Fields of plain objects, each checked for its type: a wrong one is an error naming the key, since a mistake here
// would otherwise surface as a crash.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/lists.h"

namespace lowrank::addon {

/// Reads typed fields of one object; `where` names it in errors.
class Fields {
 public:
  Fields(Napi::Value value, std::string where);

  Napi::Env env() const { return object_.Env(); }
  bool has(const char* key) const;
  /// Keys that have a value.
  std::vector<std::string> keys() const;
  Napi::Value get(const char* key) const;
  int64_t integer(const char* key) const;
  int64_t integer(const char* key, int64_t fallback) const { return has(key) ? integer(key) : fallback; }
  int index(const char* key) const;  // 32-bit, may be negative
  double number(const char* key) const;
  double number(const char* key, double fallback) const { return has(key) ? number(key) : fallback; }
  bool flag(const char* key, bool fallback) const;
  std::string text(const char* key) const;
  std::vector<Napi::Value> list(const char* key) const;
  /// An Int32Array, copied.
  std::vector<int32_t> ids(const char* key) const;
  /// A Float32Array, copied.
  std::vector<float> floats(const char* key) const;
  /// The index of a string in `names`; an error lists them.
  template <size_t N>
  int choice(const char* key, const char* const (&names)[N]) const {
    return choose(key, names, N);
  }
  /// A value of an enumeration of native/lists.json.
  template <class Enumeration>
  Enumeration choice(const char* key) const {
    return static_cast<Enumeration>(choice(key, names_of(Enumeration())));
  }
  /// A structure of native/lists.json. Absent optional fields keep their defaults.
  template <class Structure>
  Structure structure() const {
    Structure read;
    each_field(read, [this](const char* key, auto& field, bool optional) {
      if (!optional || has(key)) this->read(key, field);
    });
    return read;
  }
  [[noreturn]] void wrong(const char* key, const std::string& expected) const;

 private:
  void read(const char* key, int64_t& field) const { field = integer(key); }
  void read(const char* key, bool& field) const { field = flag(key, field); }
  void read(const char* key, std::string& field) const { field = text(key); }
  template <class Enumeration>
  void read(const char* key, Enumeration& field) const {
    field = choice<Enumeration>(key);
  }
  int choose(const char* key, const char* const* names, size_t count) const;
  Napi::Object object_;
  std::string where_;
};

}  // namespace lowrank::addon
