// What lib/ gives, each value checked for its type: a wrong one is an error that names it, since a mistake here would
// otherwise surface as a crash.
#pragma once

#include <napi.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/boundary.h"

namespace lowrank::addon {

template <class T, template <class...> class Kind>
inline constexpr bool is_a = false;
template <class... Arguments, template <class...> class Kind>
inline constexpr bool is_a<Kind<Arguments...>, Kind> = true;

/// Indices of an adapter's parameters by name.
using ParameterNames = std::unordered_map<std::string, int>;

/// One value; `name` is what errors call it.
class Given {
 public:
  /// @param parameters that fields of the type ParameterIndex name; must outlive it
  Given(Napi::Value value, std::string name, const ParameterNames* parameters = nullptr)
      : value_(value), name_(std::move(name)), parameters_(parameters) {}

  Napi::Env env() const { return value_.Env(); }
  Napi::Value value() const { return value_; }
  const std::string& name() const { return name_; }
  const ParameterNames* parameters() const { return parameters_; }
  bool is_absent() const { return value_.IsUndefined() || value_.IsNull(); }
  [[noreturn]] void wrong(const std::string& expected) const;

  bool flag() const;
  double number() const;
  int64_t integer() const;
  int index() const;  // 32-bit, may be negative
  std::string text() const;
  ParameterIndex parameter() const;
  std::vector<Given> list() const;
  /// A typed array, whose elements must not outlive the call.
  template <class Array>
  Array array(napi_typedarray_type type, const char* expected) const {
    if (!value_.IsTypedArray() || value_.As<Napi::TypedArray>().TypedArrayType() != type) wrong(expected);
    return value_.As<Array>();
  }
  Napi::Int32Array ids() const { return array<Napi::Int32Array>(napi_int32_array, "an Int32Array"); }
  Napi::Float32Array floats() const { return array<Napi::Float32Array>(napi_float32_array, "a Float32Array"); }
  Napi::Uint8Array bytes() const { return array<Napi::Uint8Array>(napi_uint8_array, "a Uint8Array"); }
  /// The index of a string in `names`; an error lists them.
  template <size_t N>
  int choice(const char* const (&names)[N]) const {
    return choose(names, N);
  }
  /// The rules of a matcher, which follows a grammar.
  std::shared_ptr<TokenRules> rules() const;

  /// A value of any type that has one in lib/: those above, an enumeration of native/lists.json, an object of
  /// native/boundary.json, whose absent fields keep their defaults, and lists and maps of such.
  template <class T>
  T as() const;

 private:
  int choose(const char* const* names, size_t count) const;
  Napi::Value value_;
  std::string name_;
  const ParameterNames* parameters_;
};

/// The fields of an object.
class Fields {
 public:
  explicit Fields(const Given& given);
  Fields(Napi::Value value, std::string name) : Fields(Given(value, std::move(name))) {}

  Given operator[](const char* key) const { return {object_.Get(key), name_ + '.' + key, parameters_}; }
  bool has(const char* key) const { return !(*this)[key].is_absent(); }
  /// Keys that have a value.
  std::vector<std::string> keys() const;
  Napi::Value get(const char* key) const { return object_.Get(key); }
  template <class T>
  T get(const char* key) const {
    return (*this)[key].as<T>();
  }
  template <class T>
  T get(const char* key, T fallback) const {
    return has(key) ? get<T>(key) : fallback;
  }
  [[noreturn]] void wrong(const char* key, const std::string& expected) const { (*this)[key].wrong(expected); }

 private:
  Napi::Object object_;
  std::string name_;
  const ParameterNames* parameters_;
};

template <class T>
T Given::as() const {
  const auto copied = [](auto array) { return T(array.Data(), array.Data() + array.ElementLength()); };
  if constexpr (std::is_same_v<T, bool>) {
    return flag();
  } else if constexpr (std::is_same_v<T, int>) {
    return index();
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(integer());
  } else if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(number());
  } else if constexpr (std::is_enum_v<T>) {
    return static_cast<T>(choice(names_of(T())));
  } else if constexpr (std::is_same_v<T, ParameterIndex>) {
    return parameter();
  } else if constexpr (std::is_same_v<T, std::string>) {
    return text();
  } else if constexpr (std::is_same_v<T, std::vector<int32_t>>) {
    return copied(ids());
  } else if constexpr (std::is_same_v<T, std::vector<float>>) {
    return copied(floats());
  } else if constexpr (std::is_same_v<T, std::vector<uint8_t>>) {
    return copied(bytes());
  } else if constexpr (std::is_same_v<T, std::shared_ptr<TokenRules>>) {
    return rules();
  } else if constexpr (is_a<T, std::optional>) {
    return as<typename T::value_type>();
  } else if constexpr (is_a<T, std::vector>) {
    T read;
    for (const Given& item : list()) read.push_back(item.as<typename T::value_type>());
    return read;
  } else if constexpr (is_a<T, std::map>) {
    T read;
    const Fields fields(*this);
    for (const std::string& key : fields.keys()) read.emplace(key, fields.get<typename T::mapped_type>(key.c_str()));
    return read;
  } else {
    T read;
    const Fields fields(*this);
    T::each_key(read, [&fields]<class Field>(const char* key, Field& field, bool optional) {
      const Given given = fields[key];
      if (!optional || !given.is_absent()) field = given.as<Field>();
    });
    return read;
  }
}

}  // namespace lowrank::addon
