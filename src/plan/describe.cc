// A plan in words.
#include "plan/describe.h"

#include <cstdio>

namespace fusedattn {
namespace {

std::string edge(std::int64_t n) { return n >= kUnbounded / 2 ? "inf" : std::to_string(n); }

std::string band_text(const Band& band, const char* name) {
  if (band.left >= kUnbounded / 2 && band.right >= kUnbounded / 2) return "";
  return std::string(name) + "(" + edge(band.left) + ";" + edge(band.right) + ")";
}

std::string mask_text(const Mask& mask) {
  std::string text = band_text(mask.top_left, "top-left") + band_text(mask.bottom_right, "bottom-right");
  const auto add = [&text](bool present, const char* name) {
    if (present) text += text.empty() ? name : std::string("+") + name;
  };
  add(mask.bands != nullptr, "bands");
  add(mask.prefix != nullptr, "prefix");
  add(mask.bytes.data != nullptr, "bytes");
  return text.empty() ? "no mask" : text;
}

// "+bias+dropout 0.9"
std::string terms_text(const Problem& p) {
  std::string text;
  char number[32];
  std::snprintf(number, sizeof number, "+softcap %g", static_cast<double>(p.softcap));
  if (p.softcap != 0.0f) text += number;
  if (p.bias.data != nullptr) text += "+bias";
  if (p.alibi.slopes != nullptr) text += "+alibi";
  if (p.sink != nullptr) text += "+sink";
  if (!p.dropout.active()) return text;
  std::snprintf(number, sizeof number, "+dropout %g", 1.0 - static_cast<double>(p.dropout.keep_prob));
  return text + number;
}

double total_pairs(const Problem& p) {
  double pairs = 0;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const Sequence seq = sequence(p, b);
    pairs += static_cast<double>(seq.q_len) * static_cast<double>(seq.kv_len);
  }
  return pairs * static_cast<double>(p.q_heads);
}

}  // namespace

std::string describe(const Plan& plan) {
  const Problem& p = plan.problem;
  const bool forward = plan.direction == Direction::forward;
  const Tile tile = forward ? plan.kernels->forward_tile(p) : plan.kernels->backward_tile(p);
  const double pairs = total_pairs(p);
  char line[512];
  std::snprintf(line, sizeof line,
                "%s,%s,%s,b%lld%s h%lld/%lld q%lld k%lld d%lld/%lld,%s,area %.2f,tile %lldx%lld,items %lld,ws %.1f MiB",
                forward ? "forward" : "backward", plan.kernels->name, name_of(p.dtype), static_cast<long long>(p.batch),
                p.packed() ? " packed" : "", static_cast<long long>(p.q_heads), static_cast<long long>(p.kv_heads),
                static_cast<long long>(p.q_len), static_cast<long long>(p.kv_len), static_cast<long long>(p.dim),
                static_cast<long long>(p.dim_v), (mask_text(p.mask) + terms_text(p)).c_str(),
                pairs > 0 ? static_cast<double>(visible_area(p)) / pairs : 0.0, static_cast<long long>(tile.rows),
                static_cast<long long>(tile.cols),
                forward ? static_cast<long long>(plan.forward_items.size()) : static_cast<long long>(plan.items),
                static_cast<double>(plan.workspace_bytes) / 1048576.0);
  return line;
}

double useful_flops(const Plan& plan) {
  const Problem& p = plan.problem;
  const double products = plan.direction == Direction::forward ? static_cast<double>(p.dim + p.dim_v)
                                                               : static_cast<double>(3 * p.dim + 2 * p.dim_v);
  return 2.0 * static_cast<double>(visible_area(p)) * products;
}

}  // namespace fusedattn
