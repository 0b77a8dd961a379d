// Whether a text is JSON.
#pragma once
#include <string_view>

namespace fusedattn::cann {

// True for one JSON object, with nothing but white space around it.
bool is_json_object(std::string_view text);

}  // namespace fusedattn::cann
