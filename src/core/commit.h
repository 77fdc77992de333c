/* commit - the state of the source that this program was built from. */
#pragma once

/* git's short name of it, with "-dirty" behind it where tracked files differed; "" where git knew
 * nothing.  Written by every build (cmake/commit.cmake). */
extern const char core_commit[];
