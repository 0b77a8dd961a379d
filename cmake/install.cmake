# Installation: the library and headers for C and C++ (find_package, pkg-config), and the component `python` of the wheel.
include(CMakePackageConfigHelpers)

if(SKBUILD)
  foreach(library fusedattn fusedattn_probe fusedattn_mkl_intel_path)
    if(TARGET ${library})
      install(TARGETS ${library} LIBRARY DESTINATION . COMPONENT python)
    endif()
  endforeach()
  if(TARGET fusedattn_cann)
    install(TARGETS fusedattn_cann LIBRARY DESTINATION . COMPONENT python)
    install(DIRECTORY ${PROJECT_SOURCE_DIR}/cann/include DESTINATION share/cann COMPONENT python)
    install(FILES ${PROJECT_SOURCE_DIR}/cann/set_env.sh DESTINATION share/cann COMPONENT python)
  endif()
  return()
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fusedattn)
install(TARGETS fusedattn EXPORT fusedattn-targets)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/fusedattn DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT fusedattn-targets NAMESPACE fusedattn:: DESTINATION ${package_dir})

configure_package_config_file(cmake/fusedattn-config.cmake.in fusedattn-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(fusedattn-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/fusedattn-config.cmake ${PROJECT_BINARY_DIR}/fusedattn-config-version.cmake
        DESTINATION ${package_dir})

# A prefix relative to the .pc file, so that the installed tree can be moved.
file(RELATIVE_PATH pc_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
if(FUSEDATTN_STATIC)
  set(pc_libs_public "-lstdc++ -lm -pthread")
endif()
configure_file(cmake/fusedattn.pc.in fusedattn.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/fusedattn.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
