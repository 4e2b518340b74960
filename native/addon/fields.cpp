#include "addon/fields.h"

#include <cmath>

namespace lowrank::addon {

Fields::Fields(Napi::Value value, std::string where) : where_(std::move(where)) {
  if (!value.IsObject()) throw Napi::TypeError::New(value.Env(), "lowrank: " + where_ + " must be an object");
  object_ = value.As<Napi::Object>();
}

void Fields::wrong(const char* key, const std::string& expected) const {
  throw Napi::TypeError::New(env(), "lowrank: " + where_ + '.' + key + " must be " + expected);
}

Napi::Value Fields::get(const char* key) const { return object_.Get(key); }

std::vector<std::string> Fields::keys() const {
  std::vector<std::string> names;
  const Napi::Array all = object_.GetPropertyNames();
  for (uint32_t i = 0; i < all.Length(); ++i) {
    std::string name = all.Get(i).ToString().Utf8Value();
    if (has(name.c_str())) names.push_back(std::move(name));
  }
  return names;
}

bool Fields::has(const char* key) const {
  const Napi::Value value = get(key);
  return !value.IsUndefined() && !value.IsNull();
}

double Fields::number(const char* key) const {
  const Napi::Value value = get(key);
  if (!value.IsNumber()) wrong(key, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

int64_t Fields::integer(const char* key) const {
  const double value = number(key);
  if (value != std::floor(value) || std::fabs(value) > 9007199254740991.0) wrong(key, "an integer below 2^53");
  return static_cast<int64_t>(value);
}

int Fields::index(const char* key) const {
  const int64_t value = integer(key);
  if (value != static_cast<int32_t>(value)) wrong(key, "an integer of 32 bits");
  return static_cast<int>(value);
}

bool Fields::flag(const char* key, bool fallback) const {
  if (!has(key)) return fallback;
  const Napi::Value value = get(key);
  if (!value.IsBoolean()) wrong(key, "true or false");
  return value.As<Napi::Boolean>().Value();
}

std::string Fields::text(const char* key) const {
  const Napi::Value value = get(key);
  if (!value.IsString()) wrong(key, "a string");
  return value.As<Napi::String>().Utf8Value();
}

std::vector<Napi::Value> Fields::list(const char* key) const {
  const Napi::Value value = get(key);
  if (!value.IsArray()) wrong(key, "an array");
  const Napi::Array array = value.As<Napi::Array>();
  std::vector<Napi::Value> items;
  for (uint32_t i = 0; i < array.Length(); ++i) items.push_back(array.Get(i));
  return items;
}

std::vector<int32_t> Fields::ids(const char* key) const {
  const Napi::Value value = get(key);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array)
    wrong(key, "an Int32Array");
  const Napi::Int32Array array = value.As<Napi::Int32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

std::vector<float> Fields::floats(const char* key) const {
  const Napi::Value value = get(key);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array)
    wrong(key, "a Float32Array");
  const Napi::Float32Array array = value.As<Napi::Float32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

int Fields::choose(const char* key, const char* const* names, size_t count) const {
  const std::string value = text(key);
  for (size_t i = 0; i < count; ++i)
    if (value == names[i]) return static_cast<int>(i);
  std::string all;
  for (size_t i = 0; i < count; ++i) all += (i ? ", " : "") + std::string(names[i]);
  wrong(key, "one of " + all + ", not '" + value + "'");
}

}  // namespace lowrank::addon
