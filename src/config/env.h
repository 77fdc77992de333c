/* env - the one place that reads the environment, so that what steers a run can be listed by
 * looking for the callers of one function. */
#pragma once

/* The variable's value, NULL when it is not set.  Valid until the environment is changed. */
const char *config_env(const char *name);
