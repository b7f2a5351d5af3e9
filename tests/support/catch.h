#pragma once
/// The test library, whichever version the system has: Catch2 3.x, or 2.13 (Debian 12). Test files include this header
/// and nothing of Catch2 itself. `Approx` is at global scope in both cases.

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
namespace Catch {
inline auto Contains(const std::string& text) { return Matchers::ContainsSubstring(text); }
}  // namespace Catch
#else
#include <catch2/catch.hpp>
#endif
