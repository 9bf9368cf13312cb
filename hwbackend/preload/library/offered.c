/* vsim_preload.h: what programs that know of the library may call. */
#include "../vsim_preload.h"

#include "blocks.h"
#include "homes.h"
#include "log.h"
#include "settings.h"

EXPORT int vsim_reserve(unsigned long long *address, size_t bytes, size_t reserve_bytes)
{
    if (settings()->mode != MANAGE)
        return CUDA_ERROR_NOT_SUPPORTED;
    struct home *home = current_home();
    if (address == NULL || bytes == 0 || reserve_bytes < bytes)
        return CUDA_ERROR_INVALID_VALUE;
    if (home == NULL || !home->device->managed)
        return CUDA_ERROR_NOT_SUPPORTED;
    enum placing placing;
    uint64_t begin = log_now_ns();
    CUresult code = take_block(home, address, bytes, reserve_bytes, &placing);
    uint64_t end = log_now_ns();
    log_event((struct event){.time_ns = end, .duration_ns = (uint32_t)(end - begin),
                             .op = OP_MALLOC, .kind = KIND_PLAIN, .result = (uint32_t)code,
                             .address = code == CUDA_SUCCESS ? *address : 0, .bytes = bytes,
                             .other = (uint64_t)(uintptr_t)home->context,
                             .device = (uint16_t)home->device->id, .place = (uint16_t)placing});
    return code;
}

EXPORT int vsim_realloc(unsigned long long *address, size_t bytes)
{
    if (settings()->mode != MANAGE)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (address == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    struct found before = find_block(*address);
    uint64_t begin = log_now_ns();
    unsigned long long old = *address;
    CUresult code = resize_block(address, bytes);
    uint64_t end = log_now_ns();
    log_event((struct event){.time_ns = end, .duration_ns = (uint32_t)(end - begin),
                             .op = OP_REALLOC, .kind = KIND_PLAIN, .result = (uint32_t)code,
                             .address = *address, .bytes = bytes, .other = old,
                             .device = (uint16_t)before.device});
    return code;
}

EXPORT int vsim_pool_trim(size_t keep_bytes)
{
    if (settings()->mode != MANAGE)
        return CUDA_ERROR_NOT_SUPPORTED;
    trim_unused(keep_bytes);
    return CUDA_SUCCESS;
}
