// What this door takes from fusedattn.h: names of dtypes, and its failures in the codes of the door.
#pragma once
#include <cstddef>
#include <cstdint>

#include "fusedattn/fusedattn.h"
#include "message.h"

namespace fusedattn::cann {

// FUSEDATTN_FLOAT32, ... of a type that was checked.
std::int32_t library_dtype(aclDataType dtype);

// Stands for address `index` of a problem while it is planned and the address not known. Never looked behind; no memory begins so low.
void* placeholder(std::size_t index);

// The failure of a call of the library as `function` reports it.
Outcome library_outcome(const char* function, fusedattn_status status);

}  // namespace fusedattn::cann
