# Facts of the configuration for solvent::build_info(). No date, so that builds are reproducible.
set(SOLVENT_BUILD_COMMIT "unknown")
find_package(Git QUIET)
if(Git_FOUND AND EXISTS "${Solvent_SOURCE_DIR}/.git")
  execute_process(COMMAND "${GIT_EXECUTABLE}" -C "${Solvent_SOURCE_DIR}" rev-parse --short=12 HEAD
                  OUTPUT_VARIABLE solvent_commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE result)
  if(result EQUAL 0)
    set(SOLVENT_BUILD_COMMIT "${solvent_commit}")
  endif()
endif()

string(TOUPPER "${CMAKE_BUILD_TYPE}" solvent_build_type)
string(JOIN " " SOLVENT_BUILD_FLAGS ${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${solvent_build_type}} -std=c++20
       ${SOLVENT_PRIVATE_OPTIONS} ${SOLVENT_SANITIZE_OPTIONS})
set(SOLVENT_BUILD_CUDA "off")
if(SOLVENT_CUDA)
  set(SOLVENT_BUILD_CUDA "${CUDAToolkit_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
endif()
set(SOLVENT_BUILD_ONEDNN "off")
if(SOLVENT_ONEDNN_FOUND)
  set(SOLVENT_BUILD_ONEDNN "${SOLVENT_ONEDNN_VERSION}")
endif()
set(SOLVENT_BUILD_OPENMP "off")
if(SOLVENT_OPENMP_FOUND)
  set(SOLVENT_BUILD_OPENMP "${OpenMP_CXX_VERSION}")
endif()
string(JOIN "; " SOLVENT_BUILD_SWITCHED_OFF ${SOLVENT_SWITCHED_OFF})
configure_file("${Solvent_SOURCE_DIR}/core/cmake/build_info_config.h.in"
               "${CMAKE_CURRENT_BINARY_DIR}/generated/build_info_config.h" @ONLY)
