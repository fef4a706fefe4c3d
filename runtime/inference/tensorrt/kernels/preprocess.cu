// All cameras' frames into the network's input batch, in one launch: scaled, converted to RGB, planar, padded, typed.
//
// One thread makes one pixel of one camera: it averages each of the frame's three planes over the pixel's window,
// turns the three averages into red, green and blue, rounds them to 0..255 and looks up what the network wants for
// each (a uint8, INT8, FP16 or FP32 bit pattern). grid = (ceil(width / 32), ceil(height / 8), rows), block = (32, 8).
//
// The arithmetic is in whole numbers from the first load to the last store, so a GPU, NVRTC's build of this file and
// a C++ compiler's give the same bits; the tests compile this very file for the host and hold it to that.
//
//   window     Along each axis output pixel x covers [start, start + extent) of the source, in 1/65536 of a sample,
//              with start = x * increment + bias. Scaling down, extent = increment: exact area averaging. Scaling up,
//              extent = 65536 and the same formula is bilinear interpolation. Samples past an edge repeat the edge.
//   average    sum over rows of weight_y * (sum over columns of weight_x * sample). A weight is at most 65536; the
//              inner sum fits 32 bits while extent < 2^24 (scaling by less than 256), the outer one 64 (52 are used).
//              Divided by extent_x * extent_y through its reciprocal, it is the sample's value in 1/65536.
//   colour     matrix (1/16384) times the three averages plus offset (1/2^30, with half a step to round by), shifted
//              right by 30. The host puts range, standard (BT.601, BT.709, ...) and the network's channel order in.
//
// Two sources of frames that look alike are the same here: NV12 is (Y, step 1), (UV, step 2), (UV + 1, step 2);
// packed RGB is one address three times with step 3. No alignment is asked of addresses and pitches.
//
// This file includes nothing, so that NVRTC compiles it on a vehicle that has no CUDA headers.

#ifdef SHADOWRIG_HOST_BUILD
#define DEVICE static inline
#define EXPORTED extern "C"
#else
#define DEVICE static __device__ __forceinline__
#define EXPORTED extern "C" __global__ void __launch_bounds__(256)
#endif

typedef unsigned char Byte;
typedef unsigned int Word;
typedef unsigned long long Address;
typedef long long Wide;

static_assert(sizeof(Word) == 4 && sizeof(Address) == 8 && sizeof(Wide) == 8, "the host packs 4 and 8 bytes");

struct Plane {
    Address samples;
    int pitch_bytes, step_bytes;
    int width, height;
    int increment_x, increment_y;
    int bias_x, bias_y;
    int extent_x, extent_y;
    int coarse_shift;  // the sum is shifted right by it, to at most 31 bits
    Word reciprocal;   // then multiplied by this
    int fine_shift;    // and shifted right by this: 1/65536 of a sample's unit
    int unused;
};

struct Camera {
    Plane planes[3];
    Wide offset[3];
    int matrix[9];  // [channel of the network][plane]
    int is_present;
    int content_width, content_height;
    Address output;  // [3, height, width] of this camera's row
};

static_assert(sizeof(Plane) == 64 && sizeof(Camera) == 272, "keep runtime/inference/tensorrt/preprocess_block.py alike");

DEVICE int least(int a, int b) { return a < b ? a : b; }
DEVICE int most(int a, int b) { return a > b ? a : b; }

// How much of sample `index` the window [start, end) covers, in 1/65536 of a sample.
DEVICE Word weight_of(int index, int start, int end) {
    return (Word)(least(end, (index + 1) * 65536) - most(start, index * 65536));
}

// The average of a plane over output pixel (x, y)'s window, in 1/65536.
DEVICE int average(const Plane& plane, int x, int y) {
    const int left = x * plane.increment_x + plane.bias_x, right = left + plane.extent_x;
    const int top = y * plane.increment_y + plane.bias_y, bottom = top + plane.extent_y;
    const Byte* samples = (const Byte*)plane.samples;
    Address total = 0;
    for (int row = top >> 16; row <= (bottom - 1) >> 16; ++row) {
        const int inside_row = least(most(row, 0), plane.height - 1);
        const Byte* line = samples + (Wide)inside_row * plane.pitch_bytes;
        Word of_line = 0;
        for (int column = left >> 16; column <= (right - 1) >> 16; ++column) {
            const int inside_column = least(most(column, 0), plane.width - 1);
            of_line += weight_of(column, left, right) * line[inside_column * plane.step_bytes];
        }
        total += (Address)of_line * weight_of(row, top, bottom);
    }
    const Address scaled = (total >> plane.coarse_shift) * plane.reciprocal;
    return (int)((scaled + (1ull << (plane.fine_shift - 1))) >> plane.fine_shift);
}

DEVICE void store(Address output, Wide index, Word bits, int element_bytes) {
    if (element_bytes == 1)
        ((Byte*)output)[index] = (Byte)bits;
    else if (element_bytes == 2)
        ((unsigned short*)output)[index] = (unsigned short)bits;
    else
        ((Word*)output)[index] = bits;
}

// `lookup` is [3][256]: the network's bit pattern of each channel's pixel value. Padding goes through it like pixels.
DEVICE void make_pixel(const Camera& camera, const Word* lookup, int x, int y, int width, int height, int element_bytes,
                       int pad_value) {
    const bool has_content = camera.is_present && x < camera.content_width && y < camera.content_height;
    int averages[3] = {0, 0, 0};
    if (has_content)
        for (int plane = 0; plane < 3; ++plane) averages[plane] = average(camera.planes[plane], x, y);
    for (int channel = 0; channel < 3; ++channel) {
        int value = pad_value;
        if (has_content) {
            Wide mixed = camera.offset[channel];
            for (int plane = 0; plane < 3; ++plane)
                mixed += (Wide)camera.matrix[channel * 3 + plane] * averages[plane];
            value = least(most((int)(mixed >> 30), 0), 255);
        }
        const Wide index = ((Wide)channel * height + y) * width + x;
        store(camera.output, index, lookup[channel * 256 + value], element_bytes);
    }
}

#ifdef SHADOWRIG_HOST_BUILD

EXPORTED void preprocess_frames(const Camera* cameras, const Word* lookup, int width, int height, int element_bytes,
                                int pad_value, int rows) {
    for (int row = 0; row < rows; ++row)
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x)
                make_pixel(cameras[row], lookup, x, y, width, height, element_bytes, pad_value);
}

#else

EXPORTED preprocess_frames(const Camera* __restrict__ cameras, const Word* __restrict__ lookup, int width, int height,
                           int element_bytes, int pad_value) {
    const int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 8 + threadIdx.y;
    if (x < width && y < height)
        make_pixel(cameras[blockIdx.z], lookup, x, y, width, height, element_bytes, pad_value);
}

#endif
