#pragma once
/// CPU kernels of batch normalisation and dropout on raw memory. Everything here trusts its arguments; results do not depend
/// on the number of threads.

#include <cstdint>

#include "solvent/core/rng.h"

namespace solvent::cpu {

/// A contiguous array (samples, channels, size), statistics per channel.
struct ChannelShape {
  std::int64_t samples;
  std::int64_t channels;
  std::int64_t size;
};

/// mean[c] and var[c] (divided by the count) of x. @throws std::bad_alloc
template <class T>
void channel_moments(const ChannelShape& s, const T* x, T* mean, T* var);
/// y = (x - mean[c]) scale[c] + shift[c]; y may be x. @throws std::bad_alloc
template <class T>
void channel_affine(const ChannelShape& s, const T* x, const T* mean, const T* scale, const T* shift, T* y);
/// sum_g[c] = sum of g and sum_gx[c] = sum of g (x - mean[c]). @throws std::bad_alloc
template <class T>
void channel_sums(const ChannelShape& s, const T* g, const T* x, const T* mean, T* sum_g, T* sum_gx);
/// gx = a[c] (g - b[c] - (x - mean[c]) c[c]); gx may be g. @throws std::bad_alloc
template <class T>
void channel_backward(const ChannelShape& s, const T* g, const T* x, const T* mean, const T* a, const T* b, const T* c,
                      T* gx);

/// y[i] = 0 where word (i / inner) % period of the stream is below `threshold`, else x[i] * scale. y may be x.
template <class T>
void dropout(const Key& key, std::uint64_t threshold, double scale, std::int64_t inner, std::int64_t period, const T* x,
             std::int64_t n, T* y) noexcept;

}  // namespace solvent::cpu
