// The whole test framework of the native code: TEST registers a case, the CHECK macros report and go on, REQUIRE
// reports and ends the case. vitest runs the executable and shows every case under its title (native.test.ts).
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <limits>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace lowrank::test {

struct Case {
  const char* file;
  int line;
  const char* title;
  void (*body)();
};

// Adds a case to the list; used by TEST through a global of each test file.
struct Registration {
  explicit Registration(const Case& test);
};

// Notes a failure of the running case. Any thread may call it.
void report(const char* file, int line, const std::string& message);
// Of a comparison, with the two values.
void report(const char* file, int line, const char* text, const std::string& actual, const std::string& expected);

// Names what the case is at, for the failures that it notes meanwhile.
class Scope {
 public:
  explicit Scope(const std::string& name);
  ~Scope();
};

// Thrown by REQUIRE, caught by the runner.
struct Abandoned {};

// Thrown by SKIP, caught by the runner.
struct Skipped {
  std::string reason;
};

template <class T>
std::string show(const T& value) {
  std::ostringstream out;
  if constexpr (std::floating_point<T>) out.precision(std::numeric_limits<T>::max_digits10);
  if constexpr (std::same_as<T, bool>) {
    out << (value ? "true" : "false");
  } else if constexpr (std::integral<T>) {
    out << +value;  // a number also where the type is a kind of char
  } else if constexpr (std::convertible_to<T, std::string_view>) {
    out << '"' << std::string_view(value) << '"';
  } else if constexpr (requires { out << value; }) {
    out << value;
  } else {
    out << "(" << sizeof(T) << " bytes)";
  }
  return out.str();
}

// Integers compare by value, whatever their signs and widths.
template <class A, class E>
bool is_equal(const A& a, const E& e) {
  if constexpr (std::integral<A> && std::integral<E> && !std::same_as<A, E>) {
    return a == static_cast<A>(e) && e == static_cast<E>(a) && (a < A{}) == (e < E{});
  } else {
    return a == e;
  }
}

template <class A, class E>
bool is_at_most(const A& a, const E& e) {
  if constexpr (std::integral<A> && std::integral<E> && !std::same_as<A, E>) {
    if ((a < A{}) != (e < E{})) return a < A{};
    using Wide = std::common_type_t<A, E>;
    return static_cast<Wide>(a) <= static_cast<Wide>(e);
  } else {
    return a <= e;
  }
}

// Holds for equal values, infinities included; never for a NaN.
inline bool is_close(double actual, double expected, double relative) {
  if (actual == expected) return true;
  const double scale = std::fmax(std::fabs(actual), std::fabs(expected));
  return std::isfinite(scale) && std::fabs(actual - expected) <= relative * scale;
}

// One instance for each pair of types, not for each check: most of what the tests took to compile.
template <class A, class E>
void check_equal(const char* file, int line, const char* text, const A& actual, const E& expected) {
  if (!is_equal(actual, expected)) report(file, line, text, show(actual), show(expected));
}

template <class A, class E>
void check_at_most(const char* file, int line, const char* text, const A& actual, const E& limit) {
  if (!is_at_most(actual, limit)) report(file, line, text, show(actual), show(limit));
}

inline void check_close(const char* file, int line, const char* text, double actual, double expected, double relative) {
  if (!is_close(actual, expected, relative)) report(file, line, text, show(actual), show(expected));
}

// ‖actual − expected‖₂ / ‖expected‖₂ in float64; infinite where the sizes differ, NaN where a value is.
template <class A, class E>
double relative_error(const A& actual, const E& expected) {
  if (std::size(actual) != std::size(expected)) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < std::size(actual); ++i) {
    const double a = static_cast<double>(actual[i]), e = static_cast<double>(expected[i]);
    difference += (a - e) * (a - e);
    norm += e * e;
  }
  return difference == 0 ? 0 : std::sqrt(difference / norm);
}

void check_throws(const char* file, int line, const char* text, std::string_view part,
                  const std::function<void()>& body);

}  // namespace lowrank::test

#define LOWRANK_TEST_JOIN_(a, b) a##b
#define LOWRANK_TEST_JOIN(a, b) LOWRANK_TEST_JOIN_(a, b)

// TEST("a sentence about behavior") { ... }
#define TEST(title)                                                                                        \
  static void LOWRANK_TEST_JOIN(test_body_, __LINE__)();                                                   \
  static const ::lowrank::test::Registration LOWRANK_TEST_JOIN(                                            \
      test_registration_, __LINE__)({__FILE__, __LINE__, title, LOWRANK_TEST_JOIN(test_body_, __LINE__)}); \
  static void LOWRANK_TEST_JOIN(test_body_, __LINE__)()

#define CHECK(condition) \
  ((condition) ? void() : ::lowrank::test::report(__FILE__, __LINE__, "CHECK(" #condition ") failed"))

#define REQUIRE(condition)                                                                       \
  ((condition) ? void()                                                                          \
               : (::lowrank::test::report(__FILE__, __LINE__, "REQUIRE(" #condition ") failed"), \
                  throw ::lowrank::test::Abandoned()))

#define CHECK_EQ(actual, expected) \
  ::lowrank::test::check_equal(__FILE__, __LINE__, "CHECK_EQ(" #actual ", " #expected ")", (actual), (expected))

#define CHECK_LE(actual, limit) \
  ::lowrank::test::check_at_most(__FILE__, __LINE__, "CHECK_LE(" #actual ", " #limit ")", (actual), (limit))

// |actual − expected| ≤ relative · max(|actual|, |expected|)
#define CHECK_CLOSE(actual, expected, relative)                                                              \
  ::lowrank::test::check_close(__FILE__, __LINE__, "CHECK_CLOSE(" #actual ", " #expected ", " #relative ")", \
                               static_cast<double>(actual), static_cast<double>(expected),                   \
                               static_cast<double>(relative))

// relative_error(actual, expected) ≤ relative, for two ranges with size() and [].
#define CHECK_ALL_CLOSE(actual, expected, relative)                                                                \
  ::lowrank::test::check_at_most(__FILE__, __LINE__, "CHECK_ALL_CLOSE(" #actual ", " #expected ", " #relative ")", \
                                 ::lowrank::test::relative_error(actual, expected), static_cast<double>(relative))

// The expression throws a std::exception whose message contains `part`.
#define CHECK_THROWS(expression, part) \
  ::lowrank::test::check_throws(__FILE__, __LINE__, "CHECK_THROWS(" #expression ")", part, [&] { (void)(expression); })

// Ends the case as skipped: for what this machine does not have.
#define SKIP(why) \
  throw ::lowrank::test::Skipped { why }
