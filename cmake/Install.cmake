# cmake --install build: bin/prunelua, the core as a C library with its headers under include/prunelua, and what pkg-config and
# CMake need to find it (`pkg-config --cflags --libs prunelua`, or find_package(prunelua) and the target prunelua::prune).
include(CMakePackageConfigHelpers)

if(TARGET prunelua)
  install(TARGETS prunelua RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
set_target_properties(prunelua_dependencies PROPERTIES EXPORT_NAME dependencies)
install(TARGETS prune prunelua_dependencies EXPORT prunelua ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY core/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/prunelua FILES_MATCHING PATTERN "*.h")

# What a program that links the library needs besides it. The library is static, so all of it is named in Libs.
set(PRUNELUA_PC_REQUIRES "zlib libxxhash")
if(PRUNELUA_HAVE_JPEG)
  string(APPEND PRUNELUA_PC_REQUIRES " libturbojpeg")
endif()
if(PRUNELUA_HAVE_PNG)
  string(APPEND PRUNELUA_PC_REQUIRES " libpng")
endif()
set(PRUNELUA_PC_LIBS "${HDF5_LIBRARY} ${OPENBLAS_LIBRARY}")
if(PRUNELUA_HAVE_ONEDNN)
  string(APPEND PRUNELUA_PC_LIBS " ${DNNL_LIBRARY}")
endif()
if(PRUNELUA_OPENMP)
  string(APPEND PRUNELUA_PC_LIBS " ${OpenMP_C_FLAGS}")
endif()
string(APPEND PRUNELUA_PC_LIBS " -pthread -lm")
file(RELATIVE_PATH PRUNELUA_PC_UP /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix) # so that an installation can be moved
configure_file(cmake/prunelua.pc.in prunelua.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/prunelua.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/prunelua)
install(EXPORT prunelua NAMESPACE prunelua:: FILE prunelua-targets.cmake DESTINATION ${package_dir})
configure_package_config_file(cmake/prunelua-config.cmake.in prunelua-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/prunelua-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/prunelua-config.cmake ${CMAKE_BINARY_DIR}/prunelua-config-version.cmake
        DESTINATION ${package_dir})
