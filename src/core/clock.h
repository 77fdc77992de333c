/* clock - monotonic time for measuring. */
#pragma once

double clock_seconds(void); /* since an arbitrary moment, never goes back */
