/* What the kernels of the plug-in were compiled for: only nvcc knows, so that this is its file. */
#define TEXT_OF(...) #__VA_ARGS__
#define TEXT(...)    TEXT_OF(__VA_ARGS__)

extern "C" {
extern const char device_cuda_architectures[];
#ifdef __CUDA_ARCH_LIST__
const char device_cuda_architectures[] = TEXT(__CUDA_ARCH_LIST__);
#else
const char device_cuda_architectures[] = "";
#endif
}
