// A libcuda.so for machines without a GPU: device memory is host memory, and the one kernel it knows is
// preprocess.cu, compiled for the host from the very source that GPUs get. Streams execute at once; a captured stream
// records, and a graph replays what was recorded. As with the real driver, waiting for a stream that is being captured
// and allocating meanwhile are errors, and so is the default stream, which nothing here may use.

#define SHADOWRIG_HOST_BUILD
#include KERNEL_SOURCE

#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

struct Recording { std::vector<std::function<void()>> steps; };
struct Stream { Recording* capturing = nullptr; };

static size_t used_bytes = 0;
static int streams_capturing = 0;
enum { INVALID = 1, NOT_READY_FOR_CAPTURE = 900, NO_IMAGE = 200, NOT_FOUND = 500 };

static int put(void* stream, std::function<void()> step) {
    auto* on = static_cast<Stream*>(stream);
    if (on == nullptr) return INVALID;  // the default stream is never used here
    if (on->capturing) on->capturing->steps.push_back(step);
    else step();
    return 0;
}

extern "C" {
int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* version) { *version = HOST_DRIVER_VERSION; return 0; }
int cuDeviceGetCount(int* count) { *count = 1; return 0; }
int cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = size_t(8) << 30; return 0; }
int cuDeviceGet(int* device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char* name, int size, int) { strncpy(name, "no GPU: the kernel's source on the CPU", size); return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : 1;
    return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int) { *context = context; return 0; }
int cuCtxSetCurrent(void*) { return 0; }
int cuCtxGetStreamPriorityRange(int* lowest, int* highest) { *lowest = 0; *highest = -5; return 0; }
int cuGetErrorName(int error, const char** text) {
    *text = error == NO_IMAGE ? "CUDA_ERROR_INVALID_IMAGE" : "CUDA_ERROR_OF_THE_HOST";
    return 0;
}
int cuGetErrorString(int error, const char** text) {
    *text = error == NO_IMAGE ? "device kernel image is invalid"
          : error == NOT_READY_FOR_CAPTURE ? "operation not permitted when stream is capturing"
          : error == NOT_FOUND ? "named symbol not found" : "invalid argument";
    return 0;
}
int cuModuleLoadData(void** module, const void* image) {
    *module = const_cast<void*>(image);
    const auto* bytes = static_cast<const unsigned char*>(image);
    const bool is_cuda12 = memcmp(bytes, "\x7f" "ELF", 4) == 0 && bytes[7] == 0x33;
    return is_cuda12 || memcmp(bytes, "//", 2) == 0 ? 0 : NO_IMAGE;
}
int cuModuleGetFunction(void** function, void*, const char* name) {
    *function = reinterpret_cast<void*>(&preprocess_frames);
    return strcmp(name, "preprocess_frames") == 0 ? 0 : NOT_FOUND;
}
int cuMemHostAlloc(void** memory, size_t size, unsigned) {
    if (streams_capturing) return NOT_READY_FOR_CAPTURE;
    *memory = malloc(size);
    return 0;
}
int cuMemAlloc_v2(unsigned long long* memory, size_t size) {
    if (streams_capturing) return NOT_READY_FOR_CAPTURE;
    used_bytes += size;
    *memory = reinterpret_cast<unsigned long long>(malloc(size));
    return 0;
}
int cuMemFree_v2(unsigned long long memory) { free(reinterpret_cast<void*>(memory)); return 0; }
int cuMemFreeHost(void* memory) { free(memory); return 0; }
int cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
    *total = size_t(8) << 30;
    *free_bytes = *total - used_bytes;
    return 0;
}
int cuStreamCreateWithPriority(void** stream, unsigned, int) { *stream = new Stream; return 0; }
int cuStreamGetPriority(void*, int* priority) { *priority = 0; return 0; }
int cuStreamDestroy_v2(void* stream) { delete static_cast<Stream*>(stream); return 0; }
int cuStreamSynchronize(void* stream) {
    return static_cast<Stream*>(stream)->capturing ? NOT_READY_FOR_CAPTURE : 0;
}
int cuMemcpyHtoDAsync_v2(unsigned long long device, const void* host, size_t size, void* stream) {
    return put(stream, [=] { memcpy(reinterpret_cast<void*>(device), host, size); });
}
int cuMemcpyDtoHAsync_v2(void* host, unsigned long long device, size_t size, void* stream) {
    return put(stream, [=] { memcpy(host, reinterpret_cast<void*>(device), size); });
}
int cuLaunchKernel(void* function, unsigned, unsigned, unsigned rows, unsigned x, unsigned y, unsigned, unsigned,
                   void* stream, void**, void** extra) {
    if (function != reinterpret_cast<void*>(&preprocess_frames) || x != 32 || y != 8) return INVALID;
    if (extra[0] != (void*)1 || extra[2] != (void*)2 || *static_cast<size_t*>(extra[3]) != 32) return INVALID;
    struct { const Camera* cameras; const Word* lookup; int width, height, element_bytes, pad_value; } given;
    memcpy(&given, extra[1], sizeof given);  // arguments are taken when the launch is made, as on a GPU
    return put(stream, [=] {
        preprocess_frames(given.cameras, given.lookup, given.width, given.height, given.element_bytes, given.pad_value,
                          rows);
    });
}
int cuStreamBeginCapture_v2(void* stream, int) {
    static_cast<Stream*>(stream)->capturing = new Recording;
    ++streams_capturing;
    return 0;
}
int cuStreamEndCapture(void* stream, void** graph) {
    *graph = static_cast<Stream*>(stream)->capturing;
    static_cast<Stream*>(stream)->capturing = nullptr;
    --streams_capturing;
    return 0;
}
int cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) { *executable = graph; return 0; }
int cuGraphUpload(void*, void*) { return 0; }
int cuGraphDestroy(void*) { return 0; }  // the executable graph is the recording itself
int cuGraphExecDestroy(void* executable) { delete static_cast<Recording*>(executable); return 0; }
int cuGraphLaunch(void* executable, void* stream) {
    for (const auto& step : static_cast<Recording*>(executable)->steps)
        if (int error = put(stream, step)) return error;
    return 0;
}
}
