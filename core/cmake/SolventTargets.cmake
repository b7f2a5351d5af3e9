# Functions that make Solvent's targets. Everything they set is a property of our targets; nothing is global.

set(SOLVENT_INSTALLED_TARGETS "" CACHE INTERNAL "")
foreach(feature CUDA OPENMP BLAS ONEDNN)
  set(solvent_with_${feature} 0)
  if(SOLVENT_${feature}_FOUND OR (feature STREQUAL CUDA AND SOLVENT_CUDA))
    set(solvent_with_${feature} 1)
  endif()
endforeach()

set(SOLVENT_PRIVATE_OPTIONS -Wall -Wextra -Wshadow -Wconversion -ftls-model=initial-exec)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  list(APPEND SOLVENT_PRIVATE_OPTIONS -Wno-restrict)  # wrong for `"(" + string` in GCC 12 (its bug 105651)
endif()
if(SOLVENT_WERROR)
  list(APPEND SOLVENT_PRIVATE_OPTIONS -Werror)
endif()
if(SOLVENT_NATIVE)
  list(APPEND SOLVENT_PRIVATE_OPTIONS -march=native)
endif()
set(SOLVENT_SANITIZE_OPTIONS "")
if(SOLVENT_SANITIZE)
  list(JOIN SOLVENT_SANITIZE "," solvent_sanitizers)
  set(SOLVENT_SANITIZE_OPTIONS -fsanitize=${solvent_sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # False alarms inside the standard library's headers (std::regex), as GCC's manual warns of with sanitizers.
    list(APPEND SOLVENT_SANITIZE_OPTIONS -Wno-maybe-uninitialized)
  endif()
endif()
if(SOLVENT_BUILD_FUZZERS)
  list(APPEND SOLVENT_SANITIZE_OPTIONS -fsanitize=fuzzer-no-link)
endif()

# Makes build/include/<link> a symbolic link to a source folder or file, so that "solvent/<folder>/x.h" is spelled the
# same in tree and after installation, and only the headers of linked targets are visible.
function(solvent_link_include_root source link)
  get_filename_component(source "${source}" ABSOLUTE)
  set(link "${Solvent_BINARY_DIR}/include/${link}")
  get_filename_component(parent "${link}" DIRECTORY)
  file(MAKE_DIRECTORY "${parent}")
  file(CREATE_LINK "${source}" "${link}" SYMBOLIC)
endfunction()

# Files of large unrolled kernels: GCC's instrumentation of their many small arrays on the stack, and its tracking of
# variables for the debugger, take minutes to compile. Accesses to the heap, which are what kernels can get wrong, and
# undefined behaviour stay checked.
function(solvent_unrolled_kernels)
  if(SOLVENT_BUILD_FUZZERS)
    # Readers compute nothing, and Clang needs an hour to instrument the unrolled loops.
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "-fno-sanitize=all;-g0")
    return()
  endif()
  if("address" IN_LIST SOLVENT_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "--param=asan-stack=0;-g1")
  elseif(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # At -O1, as in the preset dev, this pass of GCC 12 fails with an internal error in gru_newton.cpp.
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "$<$<CONFIG:Debug>:-fno-tree-sra>")
  endif()
endfunction()

# Flags and definitions of every target of ours, all private.
function(solvent_target_defaults target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON)
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:${SOLVENT_PRIVATE_OPTIONS}>"
    # CMake 3.25 does not know C++20 for nvcc: cuda_std_20 is an error and CMAKE_CUDA_STANDARD 20 is ignored.
    "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;--expt-relaxed-constexpr;-Xcompiler=-Wall;-Xcompiler=-ftls-model=initial-exec>"
    "$<$<COMPILE_LANGUAGE:CXX>:${SOLVENT_SANITIZE_OPTIONS}>")
  target_link_options(${target} PRIVATE ${SOLVENT_SANITIZE_OPTIONS})
  target_compile_definitions(${target} PRIVATE
    SOLVENT_WITH_CUDA=${solvent_with_CUDA}
    SOLVENT_WITH_OPENMP=${solvent_with_OPENMP}
    SOLVENT_WITH_BLAS=${solvent_with_BLAS}
    SOLVENT_WITH_ONEDNN=${solvent_with_ONEDNN}
    $<$<BOOL:${SOLVENT_STATIC_SIMD}>:HWY_COMPILE_ONLY_STATIC>)
endfunction()

# solvent_add_library(<folder> SOURCES ... HEADERS ... [CUDA_SOURCES ...] [LINK <lower layers>] [PRIVATE_LINK <dependencies>])
#
# Library solvent_<folder> (alias solvent::<folder>) of one folder. HEADERS are the public ones, installed as
# solvent/<folder>/<header>. CUDA_SOURCES (.cu, and .cpp that include CUDA's headers) belong to builds with SOLVENT_CUDA.
function(solvent_add_library folder)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;HEADERS;CUDA_SOURCES;LINK;PRIVATE_LINK")
  set(target solvent_${folder})
  add_library(${target} ${arg_SOURCES})
  if(SOLVENT_CUDA)
    solvent_add_cuda_sources(${target} ${arg_CUDA_SOURCES})
  endif()
  add_library(solvent::${folder} ALIAS ${target})
  solvent_target_defaults(${target})
  set_target_properties(${target} PROPERTIES
    EXPORT_NAME ${folder}
    DEFINE_SYMBOL ""
    VERSION ${Solvent_VERSION}
    SOVERSION ${Solvent_VERSION_MAJOR}.${Solvent_VERSION_MINOR}
    INSTALL_RPATH "$ORIGIN"
    ARCHIVE_OUTPUT_DIRECTORY "${Solvent_BINARY_DIR}/lib"
    LIBRARY_OUTPUT_DIRECTORY "${Solvent_BINARY_DIR}/lib")
  target_compile_features(${target} PUBLIC cxx_std_20)
  solvent_link_include_root("${CMAKE_CURRENT_SOURCE_DIR}" ${folder}/solvent/${folder})
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${Solvent_BINARY_DIR}/include/${folder}>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(${target} PUBLIC ${arg_LINK} PRIVATE ${arg_PRIVATE_LINK})
  if(SOLVENT_INSTALL)
    foreach(header IN LISTS arg_HEADERS)
      get_filename_component(directory "${header}" DIRECTORY)
      install(FILES "${header}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/solvent/${folder}/${directory}"
              COMPONENT development)
    endforeach()
  endif()
  set(SOLVENT_INSTALLED_TARGETS ${SOLVENT_INSTALLED_TARGETS} ${target} CACHE INTERNAL "")
endfunction()

# Sources that include CUDA's headers: for nvcc and the toolkit, or as C++ for the emulator.
function(solvent_add_cuda_sources target)
  target_sources(${target} PRIVATE ${ARGN})
  target_compile_definitions(${target} PRIVATE
    SOLVENT_CUDA_EMULATED=$<BOOL:${SOLVENT_CUDA_EMULATED}>
    SOLVENT_WITH_CUDNN=$<OR:$<BOOL:${SOLVENT_CUDNN_FOUND}>,$<BOOL:${SOLVENT_CUDA_EMULATED}>>)
  if(SOLVENT_CUDA_EMULATED)
    set(kernels ${ARGN})
    list(FILTER kernels INCLUDE REGEX "[.]cu$")
    set(options -Wno-unused-parameter)
    if(SOLVENT_EMULATOR_CHECKS)
      target_compile_definitions(${target} PRIVATE SOLVENT_EMULATOR_CHECKS=1)
      list(APPEND options -fsanitize=thread -g1)  # its calls only: core/cuda/emulator/access_checks.h
    endif()
    set_source_files_properties(${kernels} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${options}")
    target_include_directories(${target} PRIVATE "${Solvent_SOURCE_DIR}/core/cuda/emulator")
  else()
    target_link_libraries(${target} PRIVATE CUDA::cudart CUDA::cublas)
    target_include_directories(${target} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  endif()
endfunction()

# solvent_add_executable(<name> SOURCES ... [LINK ...] [INSTALL])    lands in build/<preset>/bin
function(solvent_add_executable name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "INSTALL" "" "SOURCES;LINK")
  add_executable(${name} ${arg_SOURCES})
  solvent_target_defaults(${name})
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${Solvent_BINARY_DIR}/bin"
    INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  target_link_libraries(${name} PRIVATE ${arg_LINK})
  if(arg_INSTALL AND SOLVENT_INSTALL)
    install(TARGETS ${name} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT runtime)
  endif()
endfunction()

# solvent_add_test(<name> SOURCES ... [LINK ...] [HAS_SLOW] [ENVIRONMENT ...])
#
# One test program with the shared Catch2 main. It becomes one CTest entry (label fast, every case not tagged [slow])
# and, with HAS_SLOW, a second one (label slow, the cases tagged [slow]).
function(solvent_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "HAS_SLOW" "" "SOURCES;LINK;ENVIRONMENT")
  solvent_add_executable(${name} SOURCES ${arg_SOURCES} LINK solvent_test_support ${arg_LINK})
  target_compile_options(${name} PRIVATE -O1)  # -O2 doubles the compile time of tests for nothing
  # Started in the source folder of the tests, where the golden files are.
  add_test(NAME ${name} COMMAND ${name} "~[slow]" WORKING_DIRECTORY "${Solvent_SOURCE_DIR}/tests")
  set_tests_properties(${name} PROPERTIES LABELS fast TIMEOUT 600)
  set(tests ${name})
  if(arg_HAS_SLOW)
    add_test(NAME ${name}_slow COMMAND ${name} "[slow]" WORKING_DIRECTORY "${Solvent_SOURCE_DIR}/tests")
    set_tests_properties(${name}_slow PROPERTIES LABELS slow TIMEOUT 1800)
    list(APPEND tests ${name}_slow)
  endif()
  if(arg_ENVIRONMENT)
    set_tests_properties(${tests} PROPERTIES ENVIRONMENT "${arg_ENVIRONMENT}")
  endif()
endfunction()
