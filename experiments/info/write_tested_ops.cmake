# Writes tested_ops.h, the sorted list of quoted names in the table of operations of the tests. solvent-info calls an
# operation tested when its name is among them; tests/ops/op_matrix_test.cpp fails when an operation has no entry.
#
# Usage: cmake -DTABLE=<file;file> -DOUTPUT=<tested_ops.h> -P write_tested_ops.cmake
cmake_minimum_required(VERSION 3.25)
set(names "")
foreach(file IN LISTS TABLE)
  file(STRINGS "${file}" lines REGEX "\"[a-z0-9_]+\"")
  foreach(line IN LISTS lines)
    string(REGEX MATCHALL "\"[a-z0-9_]+\"" found "${line}")
    list(APPEND names ${found})
  endforeach()
endforeach()
list(REMOVE_DUPLICATES names)
list(LENGTH names count)
# An array may not be empty; "" is no operation's name.
list(PREPEND names "\"\"")
list(SORT names)
list(JOIN names ",\n    " names)
file(WRITE "${OUTPUT}.new" "// Written by write_tested_ops.cmake.\n#pragma once\n\n#include <string_view>\n\n"
  "inline constexpr std::string_view kTestedOps[] = {\n    ${names},\n};\n")
file(COPY_FILE "${OUTPUT}.new" "${OUTPUT}" ONLY_IF_DIFFERENT)
