#pragma once
/// Texts of exceptions, independent of the test library's version (its string matchers were renamed in Catch2 3).

#include <initializer_list>
#include <string>
#include <string_view>

namespace solvent::testing {

/// The text of the E that `f` throws; says so if it throws nothing.
template <class E, class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing was thrown";
}

inline bool has_all(const std::string& text, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts)
    if (text.find(part) == std::string::npos) return false;
  return true;
}

}  // namespace solvent::testing

/// Checks the type of an exception and that its text has all the given parts.
#define CHECK_ERROR(type, call, ...)                                                       \
  do {                                                                                     \
    const std::string text_ = ::solvent::testing::message_of<type>([&] { (void)(call); }); \
    INFO(text_);                                                                           \
    CHECK(::solvent::testing::has_all(text_, {__VA_ARGS__}));                              \
  } while (false)
