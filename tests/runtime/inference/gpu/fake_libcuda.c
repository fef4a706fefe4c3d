/* A CUDA driver without a GPU, for tests: host memory is device memory, and work in a stream runs at once.
 *
 * It keeps the driver's promises that matter to us, and breaks a test that relies on what a driver does not promise:
 *   - every call needs cuInit, and all but device queries need a context current in the calling thread;
 *   - during a capture work is recorded and NOT run; a launch of the graph runs it, in order;
 *   - during a capture, allocating, freeing, loading modules and waiting fail with CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
 *     and spoil the capture, whose end then gives CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
 *   - copies must lie within one pinned and one device allocation;
 *   - nothing may be freed twice.
 * Every call is counted by name. A test reads the counts and chooses what fails through the fake_* functions below.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int R;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_IMAGE = 200,
       INVALID_CONTEXT = 201, NO_BINARY = 209, INVALID_HANDLE = 400, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700,
       LAUNCH_FAILED = 719, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };
enum { MAX_NAMES = 128, MAX_BLOCKS = 4096, MAX_OPS = 4096, MAX_KERNELS = 16, MAX_PARAMS = 256 };

/* ---- what tests see ---- */
static struct { char name[64]; long count; long fail_from; R fail_with; } calls[MAX_NAMES];
static int names, devices = 1, initialised;
static long h2d_bytes, d2h_bytes, kernel_runs, host_runs;
static size_t allocated, limit = (size_t)1 << 30;
static int driver_version = 12060, major = 8, minor = 7;

static int slot(const char *name) {
    for (int i = 0; i < names; i++) if (!strcmp(calls[i].name, name)) return i;
    if (names == MAX_NAMES) abort();
    snprintf(calls[names].name, sizeof calls[names].name, "%s", name);
    return names++;
}
long fake_count(const char *name) { return calls[slot(name)].count; }
void fake_fail(const char *name, int code, long after) {
    int i = slot(name); calls[i].fail_with = code; calls[i].fail_from = calls[i].count + after;
}
long fake_h2d_bytes(void) { return h2d_bytes; }
long fake_d2h_bytes(void) { return d2h_bytes; }
long fake_kernel_runs(void) { return kernel_runs; }
long fake_host_runs(void) { return host_runs; }
long fake_allocated_bytes(void) { return (long)allocated; }
void fake_set_memory_limit(long bytes) { limit = (size_t)bytes; }
void fake_set_devices(int count) { devices = count; }
void fake_set_driver_version(int version) { driver_version = version; }

static R entered(const char *name, int needs_context);
static __thread void *current;
static int context_object;
#define ENTER(context) do { R r_ = entered(__func__, context); if (r_) return r_; } while (0)

/* ---- memory ---- */
static struct { char *start; size_t size; int is_device; } blocks[MAX_BLOCKS];
static int find(const void *address, size_t size, int is_device) {
    for (int i = 0; i < MAX_BLOCKS; i++)
        if (blocks[i].start && blocks[i].is_device == is_device && (char *)address >= blocks[i].start &&
            (char *)address + size <= blocks[i].start + blocks[i].size) return i;
    return -1;
}
static R take(void **out, size_t size, int is_device) {
    if (!size) return INVALID_VALUE;
    if (allocated + size > limit) return OUT_OF_MEMORY;
    for (int i = 0; i < MAX_BLOCKS; i++) if (!blocks[i].start) {
        char *start = aligned_alloc(256, (size + 255) / 256 * 256);
        memset(start, 0xCD, size);  /* nobody may rely on zeros */
        blocks[i].start = start; blocks[i].size = size; blocks[i].is_device = is_device;
        allocated += size; *out = start;
        return OK;
    }
    return OUT_OF_MEMORY;
}
static R give(void *address, int is_device) {
    for (int i = 0; i < MAX_BLOCKS; i++) if (blocks[i].start && blocks[i].start == address && blocks[i].is_device == is_device) {
        allocated -= blocks[i].size; free(address); blocks[i].start = NULL;
        return OK;
    }
    return INVALID_VALUE;
}

/* ---- streams and graphs ---- */
typedef void (*HostFunction)(void *);
typedef struct { int kind; void *to; const void *from; size_t size; HostFunction host; int kernel; char params[MAX_PARAMS]; unsigned depth; } Op;
typedef struct { Op ops[MAX_OPS]; int count; int uses; } Graph;
typedef struct { int priority; int capturing, spoiled; Graph *graph; R failed; } Stream;
enum { H2D, D2H, HOST, KERNEL };
static Stream *capturing_stream;
static struct { char name[64]; void (*run)(const void *, unsigned); } kernels[MAX_KERNELS];
static int kernel_count;
/* `run` is told the parameters and the depth of the grid. */
int fake_register_kernel(const char *name, void (*run)(const void *, unsigned)) {
    if (kernel_count == MAX_KERNELS) return 1;
    snprintf(kernels[kernel_count].name, 64, "%s", name); kernels[kernel_count++].run = run;
    return 0;
}

int fake_replace_kernel(const char *name, void (*run)(const void *, unsigned)) {
    for (int i = 0; i < kernel_count; i++) if (!strcmp(kernels[i].name, name)) { kernels[i].run = run; return 0; }
    return 1;
}

static R run(const Op *op) {
    if (op->kind == H2D) { memcpy(op->to, op->from, op->size); h2d_bytes += op->size; }
    if (op->kind == D2H) { memcpy(op->to, op->from, op->size); d2h_bytes += op->size; }
    if (op->kind == HOST) { host_runs++; op->host(op->to); }
    if (op->kind == KERNEL) { kernel_runs++; if (kernels[op->kernel].run) kernels[op->kernel].run(op->params, op->depth); }
    return OK;
}
static R put(Stream *stream, const Op *op) {
    if (!stream) return INVALID_HANDLE;  /* the default stream is never used here */
    if (!stream->capturing) return run(op);
    if (stream->graph->count == MAX_OPS) return OUT_OF_MEMORY;
    stream->graph->ops[stream->graph->count++] = *op;
    return OK;
}
static R entered(const char *name, int needs_context) {
    int i = slot(name);
    calls[i].count++;
    if (calls[i].fail_with && calls[i].count > calls[i].fail_from) return calls[i].fail_with;
    if (!initialised && strcmp(name, "cuInit")) return NOT_INITIALIZED;
    return needs_context && !current ? INVALID_CONTEXT : OK;
}
static R unsafe_in_capture(void) {
    if (!capturing_stream) return OK;
    capturing_stream->spoiled = 1;
    return CAPTURE_UNSUPPORTED;
}
#define NOT_IN_CAPTURE() do { R r_ = unsafe_in_capture(); if (r_) return r_; } while (0)

/* ---- device and context ---- */
R cuInit(unsigned flags) { ENTER(0); if (!devices) return NO_DEVICE; initialised = 1; return flags ? INVALID_VALUE : OK; }
R cuDriverGetVersion(int *version) { *version = driver_version; slot("cuDriverGetVersion"); return OK; }
R cuDeviceGetCount(int *count) { ENTER(0); *count = devices; return OK; }
R cuDeviceGet(int *device, int ordinal) { ENTER(0); if (ordinal < 0 || ordinal >= devices) return 101; *device = ordinal; return OK; }
R cuDeviceGetName(char *name, int length, int device) { ENTER(0); (void)device; snprintf(name, length, "Fake Orin"); return OK; }
R cuDeviceTotalMem_v2(size_t *bytes, int device) { ENTER(0); (void)device; *bytes = limit; return OK; }
R cuDeviceComputeCapability(int *a, int *b, int device) { ENTER(0); (void)device; *a = major; *b = minor; return OK; }
R cuDeviceGetAttribute(int *value, int attribute, int device) {
    ENTER(0); (void)device;
    *value = attribute == 75 ? major : attribute == 76 ? minor : 1;
    return OK;
}
R cuDevicePrimaryCtxRetain(void **context, int device) { ENTER(0); (void)device; *context = &context_object; return OK; }
R cuDevicePrimaryCtxRelease_v2(int device) { ENTER(0); (void)device; return OK; }
R cuCtxSetCurrent(void *context) { ENTER(0); current = context; return OK; }
R cuCtxGetCurrent(void **context) { ENTER(0); *context = current; return OK; }
R cuCtxPushCurrent_v2(void *context) { ENTER(0); current = context; return OK; }
R cuCtxPopCurrent_v2(void **context) { ENTER(0); if (context) *context = current; current = NULL; return OK; }
R cuCtxAttach(void **context, unsigned flags) { ENTER(0); (void)flags; *context = current; return current ? OK : INVALID_CONTEXT; }
R cuCtxDetach(void *context) { ENTER(0); (void)context; return OK; }
R cuCtxGetDevice(int *device) { ENTER(1); *device = 0; return OK; }
R cuCtxSynchronize(void) { ENTER(1); NOT_IN_CAPTURE(); return OK; }
R cuCtxGetStreamPriorityRange(int *least, int *greatest) { ENTER(1); *least = 0; *greatest = -5; return OK; }

/* ---- memory calls ---- */
R cuMemAlloc_v2(uint64_t *address, size_t size) { ENTER(1); NOT_IN_CAPTURE(); return take((void **)address, size, 1); }
R cuMemFree_v2(uint64_t address) { ENTER(1); NOT_IN_CAPTURE(); return give((void *)address, 1); }
R cuMemHostAlloc(void **address, size_t size, unsigned flags) { ENTER(1); NOT_IN_CAPTURE(); (void)flags; return take(address, size, 0); }
R cuMemFreeHost(void *address) { ENTER(1); NOT_IN_CAPTURE(); return give(address, 0); }
R cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, Stream *stream) {
    ENTER(1);
    if (find((void *)to, size, 1) < 0 || find(from, size, 0) < 0) return INVALID_VALUE;
    Op op = {H2D, (void *)to, from, size, 0, 0, {0}, 0};
    return put(stream, &op);
}
R cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, Stream *stream) {
    ENTER(1);
    if (find((void *)from, size, 1) < 0 || find(to, size, 0) < 0) return INVALID_VALUE;
    Op op = {D2H, to, (void *)from, size, 0, 0, {0}, 0};
    return put(stream, &op);
}

/* ---- streams ---- */
R cuStreamCreateWithPriority(Stream **stream, unsigned flags, int priority) {
    ENTER(1); NOT_IN_CAPTURE();
    if (flags > 1) return INVALID_VALUE;
    *stream = calloc(1, sizeof **stream);
    (*stream)->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
    return OK;
}
R cuStreamCreate(Stream **stream, unsigned flags) { ENTER(1); return cuStreamCreateWithPriority(stream, flags, 0); }
R cuStreamGetPriority(Stream *stream, int *priority) { ENTER(1); *priority = stream->priority; return OK; }
R cuStreamDestroy_v2(Stream *stream) { ENTER(1); NOT_IN_CAPTURE(); free(stream); return OK; }
R cuStreamSynchronize(Stream *stream) { ENTER(1); if (stream && stream->capturing) { NOT_IN_CAPTURE(); } return OK; }
R cuStreamQuery(Stream *stream) { ENTER(1); (void)stream; NOT_IN_CAPTURE(); return OK; }
R cuStreamIsCapturing(Stream *stream, int *status) { ENTER(1); *status = stream->capturing ? 1 + stream->spoiled : 0; return OK; }
R cuLaunchHostFunc(Stream *stream, HostFunction host, void *data) {
    ENTER(1);
    Op op = {HOST, data, 0, 0, host, 0, {0}, 0};
    return put(stream, &op);
}

/* ---- graphs ---- */
R cuStreamBeginCapture_v2(Stream *stream, int mode) {
    ENTER(1);
    if (capturing_stream || mode < 0 || mode > 2 || !stream) return INVALID_VALUE;
    stream->capturing = 1; stream->spoiled = 0; stream->graph = calloc(1, sizeof(Graph));
    capturing_stream = stream;
    return OK;
}
R cuStreamEndCapture(Stream *stream, Graph **graph) {
    ENTER(1);
    if (!stream->capturing) return INVALID_VALUE;
    stream->capturing = 0; capturing_stream = NULL;
    if (stream->spoiled) { free(stream->graph); *graph = NULL; return CAPTURE_INVALIDATED; }
    *graph = stream->graph; stream->graph->uses = 1;
    return OK;
}
R cuGraphInstantiateWithFlags(Graph **executable, Graph *graph, unsigned long long flags) {
    ENTER(1); NOT_IN_CAPTURE();
    if (flags) return INVALID_VALUE;
    *executable = malloc(sizeof **executable);
    memcpy(*executable, graph, sizeof *graph);
    return OK;
}
R cuGraphUpload(Graph *executable, Stream *stream) { ENTER(1); (void)executable; (void)stream; return OK; }
R cuGraphLaunch(Graph *executable, Stream *stream) {
    ENTER(1);
    if (stream->capturing) return NOT_SUPPORTED;
    for (int i = 0; i < executable->count; i++) run(&executable->ops[i]);
    return OK;
}
R cuGraphDestroy(Graph *graph) { ENTER(1); free(graph); return OK; }
R cuGraphExecDestroy(Graph *executable) { ENTER(1); free(executable); return OK; }

/* ---- modules and kernels ---- */
R cuModuleLoadData(void **module, const void *image) {
    ENTER(1); NOT_IN_CAPTURE();
    if (!image || !strncmp(image, "other gpu", 9)) return NO_BINARY;
    *module = &kernels;
    return OK;
}
R cuModuleLoadDataEx(void **module, const void *image, unsigned n, void *a, void *b) {
    ENTER(1); (void)n; (void)a; (void)b;
    return cuModuleLoadData(module, image);
}
R cuModuleUnload(void *module) { ENTER(1); (void)module; return OK; }
R cuModuleGetFunction(void **function, void *module, const char *name) {
    ENTER(1); (void)module;
    for (int i = 0; i < kernel_count; i++) if (!strcmp(kernels[i].name, name)) { *function = &kernels[i]; return OK; }
    return NOT_FOUND;
}
R cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                 unsigned shared, Stream *stream, void **parameters, void **extra) {
    ENTER(1); (void)shared;
    if (!gx || !gy || !gz || bx * by * bz == 0 || bx * by * bz > 1024) return INVALID_VALUE;
    if (parameters || !extra || extra[0] != (void *)1 || extra[2] != (void *)2) return INVALID_VALUE;
    size_t size = *(size_t *)extra[3];
    if (size > MAX_PARAMS) return INVALID_VALUE;
    Op op = {KERNEL, 0, 0, 0, 0, (int)((char (*)[sizeof kernels[0]])function - (char (*)[sizeof kernels[0]])kernels), {0}, gz};
    memcpy(op.params, extra[1], size);
    return put(stream, &op);
}

/* ---- words ---- */
static const struct { R code; const char *name, *words; } results[] = {
    {OK, "CUDA_SUCCESS", "no error"}, {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}, {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}, {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}, {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}, {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
};
static R text(R code, const char **out, int words) {
    for (size_t i = 0; i < sizeof results / sizeof *results; i++)
        if (results[i].code == code) { *out = words ? results[i].words : results[i].name; return OK; }
    *out = NULL;
    return INVALID_VALUE;
}
R cuGetErrorName(R code, const char **out) { return text(code, out, 0); }
R cuGetErrorString(R code, const char **out) { return text(code, out, 1); }

/* ---- how cuda-python finds all of these: by their unversioned name ---- */
R cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
    char name[128];
    static const char *endings[] = {"_v2", "", "WithFlags"};
    (void)version; (void)flags;
    *function = NULL;
    for (int i = 0; i < 3 && !*function; i++) {
        snprintf(name, sizeof name, "%s%s", symbol, endings[i]);
        *function = dlsym(RTLD_DEFAULT, name);
        if (!*function) { Dl_info self; dladdr((void *)cuGetProcAddress_v2, &self);
            void *library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
            if (library) { *function = dlsym(library, name); dlclose(library); } }
    }
    if (!strcmp(symbol, "cuGraphInstantiate")) *function = (void *)cuGraphInstantiateWithFlags;
    if (status) *status = *function ? 0 : 1;
    return *function ? OK : NOT_FOUND;
}
R cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}

/* ---- what pycuda's extension needs to be there when it is loaded, and nobody here calls ---- */
#define ABSENT(name) R name(void) { R r_ = entered(#name, 0); return r_ ? r_ : NOT_SUPPORTED; }
ABSENT(cuArray3DCreate_v2) ABSENT(cuArray3DGetDescriptor_v2) ABSENT(cuArrayCreate_v2) ABSENT(cuArrayDestroy)
ABSENT(cuArrayGetDescriptor_v2) ABSENT(cuCtxCreate_v4) ABSENT(cuCtxDisablePeerAccess) ABSENT(cuCtxEnablePeerAccess)
ABSENT(cuCtxGetApiVersion) ABSENT(cuCtxGetCacheConfig) ABSENT(cuCtxGetLimit) ABSENT(cuCtxGetSharedMemConfig)
ABSENT(cuCtxSetCacheConfig) ABSENT(cuCtxSetLimit) ABSENT(cuCtxSetSharedMemConfig) ABSENT(cuDeviceCanAccessPeer)
ABSENT(cuDeviceGetByPCIBusId) ABSENT(cuDeviceGetPCIBusId) ABSENT(cuEventCreate) ABSENT(cuEventDestroy_v2)
ABSENT(cuEventElapsedTime_v2) ABSENT(cuEventQuery) ABSENT(cuEventRecord) ABSENT(cuEventSynchronize)
ABSENT(cuFuncGetAttribute) ABSENT(cuFuncSetAttribute) ABSENT(cuFuncSetBlockShape) ABSENT(cuFuncSetCacheConfig)
ABSENT(cuFuncSetSharedSize) ABSENT(cuIpcCloseMemHandle) ABSENT(cuIpcGetEventHandle) ABSENT(cuIpcGetMemHandle)
ABSENT(cuIpcOpenEventHandle) ABSENT(cuIpcOpenMemHandle_v2) ABSENT(cuLaunch) ABSENT(cuLaunchGrid)
ABSENT(cuLaunchGridAsync) ABSENT(cuLinkAddData_v2) ABSENT(cuLinkAddFile_v2) ABSENT(cuLinkComplete)
ABSENT(cuLinkCreate_v2) ABSENT(cuLinkDestroy) ABSENT(cuMemAllocManaged) ABSENT(cuMemAllocPitch_v2)
ABSENT(cuMemGetAddressRange_v2) ABSENT(cuMemGetInfo_v2) ABSENT(cuMemHostGetDevicePointer_v2)
ABSENT(cuMemHostGetFlags) ABSENT(cuMemHostRegister_v2) ABSENT(cuMemHostUnregister) ABSENT(cuMemcpy2DAsync_v2)
ABSENT(cuMemcpy2DUnaligned_v2) ABSENT(cuMemcpy2D_v2) ABSENT(cuMemcpy3DAsync_v2) ABSENT(cuMemcpy3DPeer)
ABSENT(cuMemcpy3DPeerAsync) ABSENT(cuMemcpy3D_v2) ABSENT(cuMemcpyAtoA_v2) ABSENT(cuMemcpyAtoD_v2)
ABSENT(cuMemcpyAtoH_v2) ABSENT(cuMemcpyDtoA_v2) ABSENT(cuMemcpyDtoDAsync_v2) ABSENT(cuMemcpyDtoD_v2)
ABSENT(cuMemcpyDtoH_v2) ABSENT(cuMemcpyHtoA_v2) ABSENT(cuMemcpyHtoD_v2) ABSENT(cuMemcpyPeer)
ABSENT(cuMemcpyPeerAsync) ABSENT(cuMemsetD16Async) ABSENT(cuMemsetD16_v2) ABSENT(cuMemsetD2D16Async)
ABSENT(cuMemsetD2D16_v2) ABSENT(cuMemsetD2D32Async) ABSENT(cuMemsetD2D32_v2) ABSENT(cuMemsetD2D8Async)
ABSENT(cuMemsetD2D8_v2) ABSENT(cuMemsetD32Async) ABSENT(cuMemsetD32_v2) ABSENT(cuMemsetD8Async) ABSENT(cuMemsetD8_v2)
ABSENT(cuModuleGetGlobal_v2) ABSENT(cuModuleGetSurfRef) ABSENT(cuModuleGetTexRef) ABSENT(cuModuleLoad)
ABSENT(cuParamSetSize) ABSENT(cuParamSetTexRef) ABSENT(cuParamSetf) ABSENT(cuParamSeti) ABSENT(cuParamSetv)
ABSENT(cuProfilerInitialize) ABSENT(cuProfilerStart) ABSENT(cuProfilerStop) ABSENT(cuStreamAttachMemAsync)
ABSENT(cuStreamWaitEvent) ABSENT(cuSurfRefGetArray) ABSENT(cuSurfRefSetArray) ABSENT(cuTexRefCreate)
ABSENT(cuTexRefDestroy) ABSENT(cuTexRefGetAddressMode) ABSENT(cuTexRefGetAddress_v2) ABSENT(cuTexRefGetArray)
ABSENT(cuTexRefGetFilterMode) ABSENT(cuTexRefGetFlags) ABSENT(cuTexRefGetFormat) ABSENT(cuTexRefSetAddress2D_v3)
ABSENT(cuTexRefSetAddressMode) ABSENT(cuTexRefSetAddress_v2) ABSENT(cuTexRefSetArray) ABSENT(cuTexRefSetFilterMode)
ABSENT(cuTexRefSetFlags) ABSENT(cuTexRefSetFormat)
