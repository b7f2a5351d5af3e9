# The architectures that CUDA code is compiled for unless CMAKE_CUDA_ARCHITECTURES or CUDAARCHS says so.

# Sets `result` to "native", that of this machine's card, or without a card ("native" would be an error there) to those of
# releases: compute capability 8.0 and 9.0.
function(solvent_default_cuda_architectures result)
  set(${result} "80;90" PARENT_SCOPE)
  # Comes with the driver. Without one it is missing or fails.
  find_program(SOLVENT_NVIDIA_SMI nvidia-smi NO_CACHE)
  if(SOLVENT_NVIDIA_SMI)
    execute_process(COMMAND "${SOLVENT_NVIDIA_SMI}" --list-gpus
                    OUTPUT_VARIABLE gpus RESULT_VARIABLE status ERROR_QUIET TIMEOUT 30)
    if(status EQUAL 0 AND gpus MATCHES "^GPU [0-9]+:")
      set(${result} native PARENT_SCOPE)
    endif()
  endif()
endfunction()
