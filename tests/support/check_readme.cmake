# README.md shows examples/first_steps.cpp between its [readme] marks, word for word, so that CI compiles it.
#
# Usage: cmake -DROOT=<repository> -P check_readme.cmake
cmake_minimum_required(VERSION 3.25)
file(READ "${ROOT}/README.md" readme)
file(READ "${ROOT}/examples/first_steps.cpp" example)
if(NOT example MATCHES "// \\[readme\\]\n(.*)// \\[readme\\]")
  message(FATAL_ERROR "examples/first_steps.cpp has no [readme] marks")
endif()
string(FIND "${readme}" "```cpp\n${CMAKE_MATCH_1}```" position)
if(position EQUAL -1)
  message(FATAL_ERROR "README.md does not show examples/first_steps.cpp as it is; copy what is between the marks")
endif()
# Links to files of the repository lead somewhere. Only the targets are matched: brackets would merge CMake's lists.
string(REGEX MATCHALL "\\([A-Za-z0-9_./:-]+\\)" links "${readme}")
foreach(link IN LISTS links)
  string(REGEX REPLACE "^\\((.*)\\)$" "\\1" link "${link}")
  if(link MATCHES "[.](md|png|h|cpp)$" AND NOT link MATCHES "^https?:" AND NOT EXISTS "${ROOT}/${link}")
    message(FATAL_ERROR "README.md links to ${link}, which does not exist")
  endif()
endforeach()
