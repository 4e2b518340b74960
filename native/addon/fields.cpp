#include "addon/fields.h"

#include <cmath>

namespace lowrank::addon {

namespace {

/// A value in an error, short and without calls of its methods.
std::string shown(const Napi::Value& value) {
  if (value.IsString()) return '\'' + value.As<Napi::String>().Utf8Value().substr(0, 80) + '\'';
  if (value.IsNumber() || value.IsBoolean() || value.IsUndefined() || value.IsNull())
    return value.ToString().Utf8Value();
  return value.IsArray()      ? "an array"
         : value.IsFunction() ? "a function"
         : value.IsObject()   ? "an object"
                              : "this value";
}

}  // namespace

void Given::wrong(const std::string& expected) const {
  throw Napi::TypeError::New(env(), "lowrank: " + name_ + " must be " + expected + ", not " + shown(value_));
}

bool Given::flag() const {
  if (!value_.IsBoolean()) wrong("true or false");
  return value_.As<Napi::Boolean>().Value();
}

double Given::number() const {
  if (!value_.IsNumber()) wrong("a number");
  return value_.As<Napi::Number>().DoubleValue();
}

int64_t Given::integer() const {
  const double value = number();
  if (value != std::floor(value) || std::fabs(value) > 9007199254740991.0) wrong("an integer below 2^53");
  return static_cast<int64_t>(value);
}

int Given::index() const {
  const int64_t value = integer();
  if (value != static_cast<int32_t>(value)) wrong("an integer of 32 bits");
  return static_cast<int>(value);
}

std::string Given::text() const {
  if (!value_.IsString()) wrong("a string");
  return value_.As<Napi::String>().Utf8Value();
}

ParameterIndex Given::parameter() const {
  const auto found = parameters_->find(text());
  if (found == parameters_->end()) wrong("the name of a declared parameter");
  return found->second;
}

std::vector<Given> Given::list() const {
  if (!value_.IsArray()) wrong("an array");
  const Napi::Array array = value_.As<Napi::Array>();
  std::vector<Given> items;
  for (uint32_t i = 0; i < array.Length(); ++i)
    items.emplace_back(array.Get(i), name_ + '[' + std::to_string(i) + ']', parameters_);
  return items;
}

int Given::choose(const char* const* names, size_t count) const {
  std::string all;
  for (size_t i = 0; i < count; ++i) all += (i ? ", " : "one of ") + std::string(names[i]);
  if (!value_.IsString()) wrong(all);
  const std::string value = text();
  for (size_t i = 0; i < count; ++i)
    if (value == names[i]) return static_cast<int>(i);
  wrong(all);
}

Fields::Fields(const Given& given) : name_(given.name()), parameters_(given.parameters()) {
  if (!given.value().IsObject()) given.wrong("an object");
  object_ = given.value().As<Napi::Object>();
}

std::vector<std::string> Fields::keys() const {
  std::vector<std::string> names;
  const Napi::Array all = object_.GetPropertyNames();
  for (uint32_t i = 0; i < all.Length(); ++i) {
    std::string name = all.Get(i).ToString().Utf8Value();
    if (has(name.c_str())) names.push_back(std::move(name));
  }
  return names;
}

}  // namespace lowrank::addon
