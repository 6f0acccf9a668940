#include "kernel.h"

int32_t assay_abi(void)
{
    return ABI_VERSION;
}
