#include "optim/optim.h"

double optim_clip_factor(double norm, double clip, double eps)
{
    return clip > 0 && norm + eps > clip ? clip / (norm + eps) : 1;
}
