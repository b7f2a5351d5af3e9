# Which architectures CUDA code is compiled for by default: "native" where a card is, "80;90" elsewhere.
#
# Usage: cmake -DROOT=<repository> -DWORK=<folder> -P check_cuda_architectures.cmake
cmake_minimum_required(VERSION 3.25)
include("${ROOT}/core/cmake/SolventCudaArchitectures.cmake")

# With an nvidia-smi that runs `script` alone in the PATH, or none if it is empty, the choice is `expected`.
function(check what script expected)
  file(REMOVE_RECURSE "${WORK}")
  file(MAKE_DIRECTORY "${WORK}")
  if(script)
    file(WRITE "${WORK}/nvidia-smi" "#!/bin/sh\n${script}\n")
    file(CHMOD "${WORK}/nvidia-smi" PERMISSIONS OWNER_READ OWNER_EXECUTE OWNER_WRITE)
  endif()
  set(ENV{PATH} "${WORK}")
  set(CMAKE_SYSTEM_PROGRAM_PATH "")  # else /usr/bin is searched whatever PATH is
  solvent_default_cuda_architectures(found)
  if(NOT "${found}" STREQUAL "${expected}")
    message(FATAL_ERROR "${what}: architectures \"${found}\", expected \"${expected}\"")
  endif()
endfunction()

check("a card" "echo 'GPU 0: NVIDIA H200 (UUID: GPU-0)'" native)
check("two cards" "echo 'GPU 0: NVIDIA H200 (UUID: GPU-0)'; echo 'GPU 1: NVIDIA H200 (UUID: GPU-1)'" native)
check("a driver without a card" "echo 'No devices found.'; exit 6" "80;90")
check("no driver in the kernel" "echo 'NVIDIA-SMI has failed'; exit 9" "80;90")
check("a driver that lists nothing" "exit 0" "80;90")
check("no driver" "" "80;90")
file(REMOVE_RECURSE "${WORK}")
message(STATUS "check_cuda_architectures: all as expected")
