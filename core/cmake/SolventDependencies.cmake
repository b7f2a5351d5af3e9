# Dependencies, found on the system; nothing is downloaded. A missing required one ends the configuration with the
# name of the package to install. A missing optional one is noted in SOLVENT_SWITCHED_OFF, shown in the summary.
set(SOLVENT_SWITCHED_OFF "")

# Stops with the way to get a required dependency.
function(solvent_require found what package hint)
  if(NOT ${found})
    message(FATAL_ERROR "Solvent needs ${what}, which was not found. On Debian or Ubuntu: apt-get install ${package} "
                        "(or run scripts/setup, which installs everything). ${hint}")
  endif()
endfunction()

find_package(fmt CONFIG QUIET)
solvent_require(fmt_FOUND "the text formatting library fmt" libfmt-dev "")

find_package(hwy CONFIG QUIET)
solvent_require(hwy_FOUND "the vector library Highway" libhwy-dev "")

find_package(nlohmann_json CONFIG QUIET)
solvent_require(nlohmann_json_FOUND "the JSON library nlohmann/json" nlohmann-json3-dev "")

set(SOLVENT_OPENMP_FOUND OFF)
if(SOLVENT_OPENMP)
  find_package(OpenMP QUIET COMPONENTS CXX)
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    set(solvent_openmp_package libomp-dev)
  else()
    set(solvent_openmp_package g++)
  endif()
  solvent_require(OpenMP_CXX_FOUND "OpenMP for ${CMAKE_CXX_COMPILER_ID}" ${solvent_openmp_package}
                  "Or configure with -DSOLVENT_OPENMP=OFF (one thread).")
  set(SOLVENT_OPENMP_FOUND ON)
else()
  list(APPEND SOLVENT_SWITCHED_OFF "OpenMP: SOLVENT_OPENMP=OFF, kernels run on one thread")
endif()

set(SOLVENT_BLAS_FOUND OFF)
set(SOLVENT_OPENBLAS_FOUND OFF)
set(SOLVENT_BLAS_FLAVOUR "none")
if(SOLVENT_BLAS)
  # OpenBLAS first: other CBLAS libraries work, but their thread count cannot be set through this library.
  set(solvent_saved_bla_vendor "${BLA_VENDOR}")
  if(NOT BLA_VENDOR)
    set(BLA_VENDOR OpenBLAS)
    find_package(BLAS QUIET)
    if(NOT BLAS_FOUND)
      set(BLA_VENDOR "")
      unset(BLAS_LIBRARIES CACHE)
      find_package(BLAS QUIET)
    endif()
  else()
    find_package(BLAS QUIET)
  endif()
  set(SOLVENT_BLAS_VENDOR "${BLA_VENDOR}")
  set(BLA_VENDOR "${solvent_saved_bla_vendor}")
  find_path(SOLVENT_CBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas-openmp openblas)
  mark_as_advanced(SOLVENT_CBLAS_INCLUDE_DIR)
  if(BLAS_FOUND AND SOLVENT_CBLAS_INCLUDE_DIR)
    set(SOLVENT_BLAS_FOUND ON)
  endif()
  solvent_require(SOLVENT_BLAS_FOUND "a BLAS library with its C interface (cblas.h)" libopenblas-openmp-dev
                  "Or configure with -DSOLVENT_BLAS=OFF (own kernels, slower for large matrices).")
  if(SOLVENT_BLAS_VENDOR)
    set(SOLVENT_BLAS_FLAVOUR "${SOLVENT_BLAS_VENDOR}")
    if(SOLVENT_BLAS_VENDOR STREQUAL "OpenBLAS")
      set(SOLVENT_OPENBLAS_FOUND ON)
    endif()
  else()
    set(SOLVENT_BLAS_FLAVOUR "generic CBLAS")
    list(APPEND SOLVENT_SWITCHED_OFF
         "OpenBLAS: not found, using another BLAS whose threads are not controlled; apt-get install libopenblas-openmp-dev")
  endif()
else()
  list(APPEND SOLVENT_SWITCHED_OFF "BLAS: SOLVENT_BLAS=OFF, own matrix kernels are used")
endif()

# The LAPACK that belongs to the BLAS found above: in the same library (OpenBLAS) or beside it.
set(SOLVENT_LAPACK_FOUND OFF)
if(SOLVENT_BLAS_FOUND)
  set(solvent_saved_bla_vendor "${BLA_VENDOR}")
  set(BLA_VENDOR "${SOLVENT_BLAS_VENDOR}")
  find_package(LAPACK QUIET)
  set(BLA_VENDOR "${solvent_saved_bla_vendor}")
  if(LAPACK_FOUND)
    set(SOLVENT_LAPACK_FOUND ON)
  else()
    list(APPEND SOLVENT_SWITCHED_OFF
         "LAPACK: not found, own eigenvalues and singular values of large matrices too; apt-get install liblapack-dev")
  endif()
endif()

# Header and library by hand: the configuration that distributions ship stops the whole configuration when OpenCL's
# development files, which a user of the CPU engine does not need, are missing.
set(SOLVENT_ONEDNN_FOUND OFF)
set(SOLVENT_ONEDNN_VERSION "")
if(SOLVENT_ONEDNN)
  find_path(SOLVENT_ONEDNN_INCLUDE_DIR oneapi/dnnl/dnnl.hpp)
  find_library(SOLVENT_ONEDNN_LIBRARY dnnl)
  mark_as_advanced(SOLVENT_ONEDNN_INCLUDE_DIR SOLVENT_ONEDNN_LIBRARY)
  if(NOT SOLVENT_ONEDNN_INCLUDE_DIR OR NOT SOLVENT_ONEDNN_LIBRARY)
    list(APPEND SOLVENT_SWITCHED_OFF "oneDNN: not found; apt-get install libdnnl-dev")
  elseif(NOT SOLVENT_OPENMP_FOUND)
    list(APPEND SOLVENT_SWITCHED_OFF "oneDNN: its threads are controlled through OpenMP, which is off")
  else()
    # Runs inside our own parallel loops; with other runtimes (TBB) it would bring threads of its own into them.
    file(STRINGS "${SOLVENT_ONEDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_config.h" solvent_onednn_runtime
         REGEX "define DNNL_CPU_RUNTIME DNNL_RUNTIME_(OMP|SEQ)")
    file(STRINGS "${SOLVENT_ONEDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h" solvent_onednn_numbers
         REGEX "define DNNL_VERSION_(MAJOR|MINOR|PATCH) ")
    list(TRANSFORM solvent_onednn_numbers REPLACE "[^0-9]+" "")
    list(JOIN solvent_onednn_numbers "." SOLVENT_ONEDNN_VERSION)
    if(NOT solvent_onednn_runtime)
      list(APPEND SOLVENT_SWITCHED_OFF "oneDNN ${SOLVENT_ONEDNN_VERSION}: built for another runtime than OpenMP")
    elseif(SOLVENT_ONEDNN_VERSION VERSION_LESS 2.6)
      list(APPEND SOLVENT_SWITCHED_OFF "oneDNN ${SOLVENT_ONEDNN_VERSION}: older than 2.6")
    else()
      set(SOLVENT_ONEDNN_FOUND ON)
      # SolventConfig.cmake makes the same target for users of static libraries.
      add_library(SolventDependency::onednn UNKNOWN IMPORTED)
      set_target_properties(SolventDependency::onednn PROPERTIES
        IMPORTED_LOCATION "${SOLVENT_ONEDNN_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${SOLVENT_ONEDNN_INCLUDE_DIR}")
    endif()
  endif()
else()
  list(APPEND SOLVENT_SWITCHED_OFF "oneDNN: SOLVENT_ONEDNN=OFF")
endif()

set(SOLVENT_ZLIB_FOUND OFF)
if(SOLVENT_ZLIB)
  find_package(ZLIB QUIET)
  set(SOLVENT_ZLIB_FOUND ${ZLIB_FOUND})
  if(NOT ZLIB_FOUND)
    list(APPEND SOLVENT_SWITCHED_OFF "zlib: not found, only uncompressed .npz and zip files; apt-get install zlib1g-dev")
  endif()
else()
  list(APPEND SOLVENT_SWITCHED_OFF "zlib: SOLVENT_ZLIB=OFF, only uncompressed .npz and zip files")
endif()

set(SOLVENT_CUDNN_FOUND OFF)
if(SOLVENT_CUDA_EMULATED)
  list(APPEND SOLVENT_SWITCHED_OFF "CUDA: emulated on the CPU (SOLVENT_CUDA_EMULATED=ON), for tests only")
elseif(SOLVENT_CUDA)
  find_package(CUDAToolkit REQUIRED)
  find_path(SOLVENT_CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(SOLVENT_CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
  mark_as_advanced(SOLVENT_CUDNN_INCLUDE_DIR SOLVENT_CUDNN_LIBRARY)
  if(SOLVENT_CUDNN_INCLUDE_DIR AND SOLVENT_CUDNN_LIBRARY)
    set(SOLVENT_CUDNN_FOUND ON)
    # SolventConfig.cmake makes the same target for users of static libraries.
    add_library(SolventDependency::cudnn UNKNOWN IMPORTED)
    set_target_properties(SolventDependency::cudnn PROPERTIES
      IMPORTED_LOCATION "${SOLVENT_CUDNN_LIBRARY}"
      INTERFACE_INCLUDE_DIRECTORIES "${SOLVENT_CUDNN_INCLUDE_DIR}")
  else()
    list(APPEND SOLVENT_SWITCHED_OFF "cuDNN: not found, own convolutions on the GPU")
  endif()
else()
  list(APPEND SOLVENT_SWITCHED_OFF "CUDA: SOLVENT_CUDA=OFF, tensors live on the CPU")
endif()

if(SOLVENT_BUILD_EXPERIMENTS)
  find_package(CLI11 CONFIG QUIET)
  solvent_require(CLI11_FOUND "the command line library CLI11" libcli11-dev
                  "Or configure with -DSOLVENT_BUILD_EXPERIMENTS=OFF.")
  find_package(tomlplusplus CONFIG QUIET)
  solvent_require(tomlplusplus_FOUND "the TOML library toml++" libtomlplusplus-dev
                  "Or configure with -DSOLVENT_BUILD_EXPERIMENTS=OFF.")
  find_path(SOLVENT_STB_INCLUDE_DIR stb_image_write.h PATH_SUFFIXES stb)
  mark_as_advanced(SOLVENT_STB_INCLUDE_DIR)
  solvent_require(SOLVENT_STB_INCLUDE_DIR "the image headers of stb" libstb-dev
                  "Or configure with -DSOLVENT_BUILD_EXPERIMENTS=OFF.")
  add_library(solvent_stb INTERFACE)
  target_include_directories(solvent_stb SYSTEM INTERFACE "${SOLVENT_STB_INCLUDE_DIR}")
  find_package(ZLIB QUIET)
  solvent_require(ZLIB_FOUND "zlib" zlib1g-dev "Or configure with -DSOLVENT_BUILD_EXPERIMENTS=OFF.")
  find_package(LibLZMA QUIET)
  solvent_require(LIBLZMA_FOUND "liblzma" liblzma-dev "Or configure with -DSOLVENT_BUILD_EXPERIMENTS=OFF.")
endif()

if(SOLVENT_BUILD_TESTS)
  find_package(Catch2 CONFIG QUIET)  # 2.13 and 3.x: tests/support/catch.h hides the difference
  solvent_require(Catch2_FOUND "the test library Catch2" catch2 "Or configure with -DSOLVENT_BUILD_TESTS=OFF.")
endif()

if(SOLVENT_BUILD_BENCH)
  find_package(benchmark CONFIG QUIET)
  solvent_require(benchmark_FOUND "Google Benchmark" libbenchmark-dev "Or configure with -DSOLVENT_BUILD_BENCH=OFF.")
endif()
