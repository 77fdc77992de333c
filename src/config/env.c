#include "config/env.h"

#include <stdlib.h>

const char *config_env(const char *name)
{
    return getenv(name);
}
