// Values of JavaScript made from native ones.
#pragma once

#include <napi.h>

#include <algorithm>

#include "addon/fields.h"

namespace lowrank::addon {

/// True for a field that may be absent and is left out.
template <class T>
bool is_empty(const T& value) {
  if constexpr (is_a<T, std::optional>) {
    return !value.has_value();
  } else if constexpr (std::is_arithmetic_v<T>) {
    return value == T{};
  } else if constexpr (requires { value.empty(); }) {
    return value.empty();
  } else {
    return false;
  }
}

template <class Array, class T>
Napi::Value copied(Napi::Env env, const std::vector<T>& elements) {
  Array array = Array::New(env, elements.size());
  std::copy(elements.begin(), elements.end(), array.Data());
  return array;
}

/// A value of any type that has one in lib/: the inverse of `Given::as`. Fields that may be absent are if they are
/// empty.
template <class T>
Napi::Value to_value(Napi::Env env, const T& from) {
  if constexpr (std::is_same_v<T, bool>) {
    return Napi::Boolean::New(env, from);
  } else if constexpr (std::is_arithmetic_v<T>) {
    return Napi::Number::New(env, static_cast<double>(from));
  } else if constexpr (std::is_enum_v<T>) {
    return Napi::String::New(env, name_of(from));
  } else if constexpr (std::is_convertible_v<T, std::string>) {
    return Napi::String::New(env, from);
  } else if constexpr (std::is_same_v<T, std::vector<int32_t>>) {
    return copied<Napi::Int32Array>(env, from);
  } else if constexpr (std::is_same_v<T, std::vector<float>>) {
    return copied<Napi::Float32Array>(env, from);
  } else if constexpr (std::is_same_v<T, std::vector<double>>) {
    return copied<Napi::Float64Array>(env, from);
  } else if constexpr (std::is_same_v<T, std::vector<uint8_t>>) {
    return copied<Napi::Uint8Array>(env, from);
  } else if constexpr (is_a<T, std::optional>) {
    return from ? to_value(env, *from) : env.Null();
  } else if constexpr (is_a<T, std::vector>) {
    Napi::Array array = Napi::Array::New(env, from.size());
    for (uint32_t i = 0; i < from.size(); ++i) array.Set(i, to_value(env, from[i]));
    return array;
  } else if constexpr (is_a<T, std::map>) {
    Napi::Object object = Napi::Object::New(env);
    for (const auto& [key, value] : from) object.Set(key, to_value(env, value));
    return object;
  } else {
    Napi::Object object = Napi::Object::New(env);
    T::each_key(from, [&](const char* key, const auto& field, bool optional) {
      if (!optional || !is_empty(field)) object.Set(key, to_value(env, field));
    });
    return object;
  }
}

}  // namespace lowrank::addon
