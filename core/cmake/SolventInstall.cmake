# Installation: libraries, listed public headers and the package "Solvent".
#   find_package(Solvent CONFIG REQUIRED COMPONENTS nn solvers)
if(NOT SOLVENT_INSTALL)
  return()
endif()
include(CMakePackageConfigHelpers)

set(solvent_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/Solvent")

install(FILES solvent.h DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/solvent" COMPONENT development)
install(TARGETS ${SOLVENT_INSTALLED_TARGETS} EXPORT SolventTargets
        ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT runtime NAMELINK_COMPONENT development
        RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT runtime)
install(EXPORT SolventTargets NAMESPACE solvent:: DESTINATION "${solvent_package_dir}" COMPONENT development)

# A static library hands its private dependencies to the consumer's link line, a shared one needs none.
set(SOLVENT_IS_STATIC ON)
if(BUILD_SHARED_LIBS)
  set(SOLVENT_IS_STATIC OFF)
endif()
configure_package_config_file(
  core/cmake/SolventConfig.cmake.in "${Solvent_BINARY_DIR}/SolventConfig.cmake"
  INSTALL_DESTINATION "${solvent_package_dir}" NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${Solvent_BINARY_DIR}/SolventConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${Solvent_BINARY_DIR}/SolventConfig.cmake" "${Solvent_BINARY_DIR}/SolventConfigVersion.cmake"
        DESTINATION "${solvent_package_dir}" COMPONENT development)
