// Opens and closes a target region: functions inside it may use a lane's instructions, functions outside it never do.
//
// Per-file compiler flags would be simpler, but inline functions of shared headers compiled under such a flag become weak
// symbols that hold the lane's instructions, and the linker may keep just those for everybody.
#pragma once
#define FUSEDATTN_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define FUSEDATTN_REGION_OPEN(features) \
  FUSEDATTN_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define FUSEDATTN_REGION_CLOSE FUSEDATTN_PRAGMA(clang attribute pop)
#else
#define FUSEDATTN_REGION_OPEN(features) \
  FUSEDATTN_PRAGMA(GCC push_options)    \
  FUSEDATTN_PRAGMA(GCC target(features))
#define FUSEDATTN_REGION_CLOSE FUSEDATTN_PRAGMA(GCC pop_options)
#endif
