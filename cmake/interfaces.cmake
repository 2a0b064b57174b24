# Building interfaces against an installed ROS 2 and against its Python wheels alike.

# The middleware opens lib<package>__rosidl_typesupport_fastrtps_c.so (or _introspection_c) by its bare name. An installed
# ROS finds it through LD_LIBRARY_PATH; in a virtual environment nothing does, unless the Python extension has pulled it in
# already. So that extension is linked against both, and the linker is told to keep what it seems not to need.
function(link_typesupports_into_python)
  set(extension ${PROJECT_NAME}_s__rosidl_typesupport_c)
  if(NOT TARGET ${extension})
    return()
  endif()
  foreach(kind fastrtps introspection)
    set(library ${PROJECT_NAME}__rosidl_typesupport_${kind}_c)
    if(TARGET ${library})
      target_link_options(${extension} PRIVATE "LINKER:--no-as-needed")
      target_link_libraries(${extension} PRIVATE ${library})
    endif()
  endforeach()
endfunction()

# Targets exported by the wheels name include directories of the machine they were built on, and CMake refuses targets
# with directories that do not exist. On an installed ROS there is nothing to drop. Call just before ament_package().
function(drop_absent_include_directories)
  get_directory_property(targets IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT directories)
      continue()
    endif()
    set(present ${directories})
    foreach(directory IN LISTS directories)
      if(IS_ABSOLUTE "${directory}" AND NOT directory MATCHES "^\\$<" AND NOT EXISTS "${directory}")
        list(REMOVE_ITEM present "${directory}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${present}")
  endforeach()
endfunction()

# The generated library exports NumPy's include directory. Where the virtual environment lies in this source tree, CMake
# refuses to export a path into the sources; users of the library in this build need it, users of the export do not.
function(keep_own_paths_out_of_export)
  set(library ${PROJECT_NAME}__rosidl_generator_py)
  if(NOT TARGET ${library})
    return()
  endif()
  get_target_property(directories ${library} INTERFACE_INCLUDE_DIRECTORIES)
  set(exported "")
  foreach(directory IN LISTS directories)
    cmake_path(IS_PREFIX CMAKE_SOURCE_DIR "${directory}" NORMALIZE inside)
    if(inside)
      set(directory "$<BUILD_INTERFACE:${directory}>")
    endif()
    list(APPEND exported "${directory}")
  endforeach()
  set_target_properties(${library} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${exported}")
endfunction()

# Builds interfaces/<name> along with this package where the host has no <name>. It is a CMake run of its own: ament keeps
# its state per run, so add_subdirectory() would mix the two packages up.
include(ExternalProject)
function(build_interfaces_where_absent name)
  find_package(${name} QUIET)
  if(${name}_FOUND)
    message(STATUS "${name}: found in ${${name}_DIR}")
    return()
  endif()
  message(STATUS "${name}: not found, built along")
  set(build_dir "${CMAKE_CURRENT_BINARY_DIR}/${name}")
  ExternalProject_Add(${name}_build
    PREFIX "${build_dir}_steps"
    SOURCE_DIR "${CMAKE_CURRENT_SOURCE_DIR}/interfaces/${name}"
    BINARY_DIR "${build_dir}"
    BUILD_ALWAYS TRUE
    INSTALL_COMMAND ""
    CMAKE_CACHE_ARGS
      "-DBUILD_TESTING:BOOL=OFF"
      "-DCMAKE_BUILD_TYPE:STRING=${CMAKE_BUILD_TYPE}"
      "-DCMAKE_INSTALL_RPATH:STRING=${CMAKE_INSTALL_RPATH}"
      "-DCMAKE_PREFIX_PATH:STRING=${CMAKE_PREFIX_PATH}"
      "-DPython3_EXECUTABLE:FILEPATH=${Python3_EXECUTABLE}")
  install(CODE "
    execute_process(
      COMMAND \"${CMAKE_COMMAND}\" --install \"${build_dir}\" --prefix \"\${CMAKE_INSTALL_PREFIX}\"
      COMMAND_ERROR_IS_FATAL ANY)")
endfunction()
