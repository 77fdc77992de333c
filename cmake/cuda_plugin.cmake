# The CUDA plug-in, build/libyoke_cuda.so: opened at run time by src/device/plugin.c, never linked.
#
#   YOKE_CUDA=auto|on|off       auto builds it where a usable toolkit is found
#   YOKE_CUDA_ARCHITECTURES     a list such as "80;90", "all" (what a release ships), or "auto":
#                               that of the GPUs in this machine, "80;90" where there is none
#
# The toolkit is found through CUDAToolkit_ROOT, nvcc on PATH, or /usr/local/cuda.  nvcc is called
# by rules of our own: CMake's CUDA language would link libstdc++ and the whole C++ runtime, which
# the plug-in does not need and a relocatable bundle must not bring.

function(yoke_cuda_toolkit reason) # sets *reason* where there is none that works
  if(NOT CUDAToolkit_FOUND OR NOT CUDAToolkit_NVCC_EXECUTABLE)
    set(${reason} "no CUDA toolkit (nvcc on PATH or in /usr/local/cuda)" PARENT_SCOPE)
    return()
  endif()
  if(NOT TARGET CUDA::cudart_static OR NOT TARGET CUDA::cublasLt)
    set(${reason} "the CUDA toolkit ${CUDAToolkit_VERSION} has no libcudart_static or libcublasLt"
      PARENT_SCOPE)
    return()
  endif()
  set(probe ${CMAKE_BINARY_DIR}/CMakeFiles/yoke_cuda_probe)
  if(NOT YOKE_CUDA_NVCC_WORKS STREQUAL CUDAToolkit_NVCC_EXECUTABLE)
    file(WRITE ${probe}.cu "__global__ void probe(int *x) { *x = 1; }\n")
    execute_process(COMMAND ${CUDAToolkit_NVCC_EXECUTABLE} -std=c++17 -c ${probe}.cu -o ${probe}.o
      RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
    if(failed)
      string(REGEX REPLACE "\n.*" "" said "${said}")
      set(${reason} "${CUDAToolkit_NVCC_EXECUTABLE} compiles nothing (is there a g++ that it accepts?): ${said}"
        PARENT_SCOPE)
      return()
    endif()
    set(YOKE_CUDA_NVCC_WORKS "${CUDAToolkit_NVCC_EXECUTABLE}" CACHE INTERNAL "an nvcc that was tried")
  endif()
  set(${reason} "" PARENT_SCOPE)
endfunction()

# *wanted* -> the -gencode options for those of them that this nvcc knows, and their names
function(yoke_cuda_gencode wanted options names)
  execute_process(COMMAND ${CUDAToolkit_NVCC_EXECUTABLE} --list-gpu-code
    OUTPUT_VARIABLE known OUTPUT_STRIP_TRAILING_WHITESPACE)
  string(REPLACE "sm_" "" known "${known}")
  string(REGEX REPLACE "[ \n]+" ";" known "${known}")
  if("90" IN_LIST known)
    list(APPEND known 90a) # the list names no feature sets; every toolkit with 90 has it
  endif()
  set(generated "")
  set(have "")
  foreach(arch ${wanted})
    if(arch IN_LIST known)
      list(APPEND generated -gencode arch=compute_${arch},code=sm_${arch})
      list(APPEND have ${arch})
    elseif(NOT YOKE_CUDA_ARCHITECTURES MATCHES "^(all|auto)$")
      message(FATAL_ERROR "YOKE_CUDA_ARCHITECTURES: nvcc ${CUDAToolkit_VERSION} does not know ${arch}; it knows ${known}")
    endif()
  endforeach()
  if("90" IN_LIST known) # for newer GPUs, which the driver compiles it for
    list(APPEND generated -gencode arch=compute_90,code=compute_90)
    list(APPEND have "PTX 90")
  endif()
  set(${options} "${generated}" PARENT_SCOPE)
  set(${names} "${have}" PARENT_SCOPE)
endfunction()

function(yoke_cuda_architectures wanted)
  set(list "${YOKE_CUDA_ARCHITECTURES}")
  if(list STREQUAL all)
    set(list 70 75 80 86 89 90 90a 100 120)
  elseif(list STREQUAL auto)
    execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
      OUTPUT_VARIABLE list ERROR_QUIET RESULT_VARIABLE failed)
    string(REGEX MATCHALL "[0-9]+\\.[0-9]+" list "${list}")
    string(REPLACE "." "" list "${list}")
    list(REMOVE_DUPLICATES list)
    if(failed OR NOT list)
      set(list 80 90)
    endif()
  endif()
  set(${wanted} "${list}" PARENT_SCOPE)
endfunction()

function(yoke_cuda_plugin)
  yoke_cuda_architectures(wanted)
  yoke_cuda_gencode("${wanted}" gencode names)
  string(REPLACE ";" ", " names "${names}")

  file(GLOB c_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/*/*.c
    ${CMAKE_SOURCE_DIR}/parallel/*/*.c ${CMAKE_SOURCE_DIR}/optim/*.c)
  list(FILTER c_sources INCLUDE REGEX "${plugin_pattern}")
  file(GLOB kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/*/*.cu
    ${CMAKE_SOURCE_DIR}/parallel/*/*.cu ${CMAKE_SOURCE_DIR}/optim/*.cu)

  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  set(without "")
  if(NOT NCCL_INCLUDE_DIR)
    list(FILTER c_sources EXCLUDE REGEX "_nccl\\.c$")
    string(APPEND without ", without NCCL's header (libnccl-dev)")
  endif()
  if(NOT CUDNN_INCLUDE_DIR)
    list(FILTER c_sources EXCLUDE REGEX "_cudnn\\.c$")
    string(APPEND without ", without cuDNN's headers (libcudnn9-dev-cuda-13)")
  endif()

  set(flags -std=c++17 -O3 -DNDEBUG -D_GNU_SOURCE -I${CMAKE_SOURCE_DIR}/src -I${CMAKE_SOURCE_DIR}
    -Xcompiler=-fPIC,-Wall,-Wextra,-fno-threadsafe-statics,-fno-exceptions,-fno-rtti
    -Xcompiler=-fno-asynchronous-unwind-tables,-fvisibility=hidden -Werror all-warnings -Xptxas=-v ${gencode})
  if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.8)
    list(APPEND flags -compress-mode=size)
  endif()
  set(objects "")
  foreach(kernel ${kernels})
    file(RELATIVE_PATH name ${CMAKE_SOURCE_DIR} ${kernel})
    set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
    get_filename_component(folder ${object} DIRECTORY)
    file(MAKE_DIRECTORY ${folder})
    # what ptxas says of each kernel is kept for scripts/ptxas_report.sh
    add_custom_command(OUTPUT ${object}
      COMMAND sh -c "said=$1; shift; \"$@\" >\"$said\" 2>&1 || { head -n 40 \"$said\"; exit 1; }"
              nvcc ${object}.ptxas
              ${CUDAToolkit_NVCC_EXECUTABLE} ${flags} -MD -MT ${object} -MF ${object}.d
              -c ${kernel} -o ${object}
      DEPENDS ${kernel} ${CMAKE_SOURCE_DIR}/cmake/cuda_plugin.cmake
      DEPFILE ${object}.d
      COMMENT "Compiling ${name} for ${names}" VERBATIM)
    list(APPEND objects ${object})
  endforeach()

  add_custom_target(yoke_cuda_kernels DEPENDS ${objects})

  set(map ${CMAKE_BINARY_DIR}/cuda/exports.map)
  file(CONFIGURE OUTPUT ${map}
    CONTENT "{ global: device_cuda_ops; nn_cuda_ops; comm_nccl_ops; yoke_cuda_*; local: *; };\n")
  add_library(yoke_cuda MODULE ${c_sources} ${objects})
  add_dependencies(yoke_cuda yoke_cuda_kernels)
  set_target_properties(yoke_cuda PROPERTIES LINKER_LANGUAGE C LINK_DEPENDS ${map}
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
  target_compile_definitions(yoke_cuda PRIVATE YOKE_VERSION="${PROJECT_VERSION}")
  # the functions of MPI come, like those of src/core, from the program that opens the plug-in
  target_include_directories(yoke_cuda SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS}
    $<TARGET_PROPERTY:MPI::MPI_C,INTERFACE_INCLUDE_DIRECTORIES>)
  target_link_libraries(yoke_cuda PRIVATE yoke_flags CUDA::cudart_static CUDA::cublasLt)
  if(NCCL_INCLUDE_DIR) # the libraries of NCCL and cuDNN are opened at run time, if they are there
    target_include_directories(yoke_cuda SYSTEM PRIVATE ${NCCL_INCLUDE_DIR})
  endif()
  if(CUDNN_INCLUDE_DIR)
    target_include_directories(yoke_cuda SYSTEM PRIVATE ${CUDNN_INCLUDE_DIR})
    target_compile_definitions(yoke_cuda PRIVATE YOKE_HAVE_CUDNN)
  endif()
  target_link_options(yoke_cuda PRIVATE -Wl,--as-needed -Wl,--exclude-libs,ALL -static-libgcc
    -Wl,--version-script=${map})
  install(TARGETS yoke_cuda LIBRARY DESTINATION lib/yoke)
  message(STATUS "CUDA plug-in: toolkit ${CUDAToolkit_VERSION}, for ${names}${without}")
endfunction()

set(YOKE_CUDA_ARCHITECTURES auto CACHE STRING "GPU architectures: a list, auto or all")
set(YOKE_CUDA_BUILT OFF CACHE INTERNAL "is there a target yoke_cuda?") # scripts/build.sh asks
string(TOLOWER "${YOKE_CUDA}" yoke_cuda_wanted)
if(NOT yoke_cuda_wanted MATCHES "^(auto|on|off)$")
  message(FATAL_ERROR "YOKE_CUDA is \"${YOKE_CUDA}\"; it may be auto, on or off")
elseif(yoke_cuda_wanted STREQUAL off)
  message(STATUS "CUDA plug-in: not built (YOKE_CUDA=off)")
elseif(yoke_cuda_wanted STREQUAL auto AND (YOKE_SANITIZE OR YOKE_FUZZ))
  message(STATUS "CUDA plug-in: not built (sanitizers do not go with CUDA)")
else()
  find_package(CUDAToolkit QUIET)
  yoke_cuda_toolkit(missing)
  if(missing AND yoke_cuda_wanted STREQUAL on)
    message(FATAL_ERROR "YOKE_CUDA=on, but ${missing}")
  elseif(missing)
    message(STATUS "CUDA plug-in: not built, ${missing}")
  else()
    set(YOKE_CUDA_BUILT ON CACHE INTERNAL "")
    yoke_cuda_plugin()
  endif()
endif()
