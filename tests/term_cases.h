// term_cases.h: the cases of everything that joins the scores or the probabilities (soft cap, bias, ALiBi, dropout, sink), of prefixes
// and bands per sequence, and of the forms of statistics; alone, with groups, packing, masks and odd sizes, and together.
#ifndef FUSEDATTN_TESTS_TERM_CASES_H
#define FUSEDATTN_TESTS_TERM_CASES_H

#include "cases.h"

namespace fusedattn::tests {

// Odd sizes in every direction, groups of two.
inline Case padded_base(const std::string& name) {
  return {.name = name, .batch = 2, .q_heads = 4, .kv_heads = 2, .q_len = 45, .kv_len = 83, .dim = 21, .dim_v = 19};
}

// A single key, sequences without rows or columns, rows and columns behind the last end.
inline Case packed_base(const std::string& name) {
  Case c = padded_base(name);
  c.batch = 6, c.q_len = 120, c.kv_len = 170, c.layout = Layout::bsnd;
  c.q_ends = {1, 1, 18, 52, 52, 117}, c.kv_ends = {3, 20, 20, 77, 78, 161};
  return c;
}

// Many rows and columns, so that blocks, tiles and splits have borders inside.
inline Case long_base(const std::string& name) {
  return {.name = name, .q_heads = 2, .kv_heads = 1, .q_len = 331, .kv_len = 1117, .dim = 8, .dim_v = 8};
}

// A few lines against many keys, which are split along the keys and, up to 8 lines of whole vectors, read as they lie.
inline Case few_lines_base(const std::string& name) {
  return {.name = name, .batch = 2, .q_heads = 4, .kv_heads = 2, .q_len = 2, .kv_len = 2311, .dim = 16, .dim_v = 48, .layout = Layout::gaps};
}

inline void add_bias_cases(CaseList& list) {
  for (int axes = 0; axes < 8; ++axes) {
    Case c = padded_base("bias_axes" + std::to_string(axes));
    c.terms.bias = {.form = BiasForm::strided, .per_sequence = (axes & 4) != 0, .per_head = (axes & 2) != 0,
                    .per_row = (axes & 1) != 0, .before_scale = axes % 3 == 0, .dtype = axes % 4 - 1};
    list.add(c);
    Case gaps = packed_base(c.name + "_packed");
    gaps.terms = c.terms, gaps.layout = Layout::gaps;
    list.add(gaps);
  }
  for (const double scale : {0.0, -0.3, 1.0}) {
    Case c = padded_base("bias_scale" + std::to_string(scale));
    c.scale = scale, c.bottom_right = kCausal, c.terms.bias = {.form = BiasForm::strided};
    list.add(c);
    c.name += "_before", c.terms.bias.before_scale = true;
    list.add(c);
  }
  for (const bool per_row : {true, false}) {
    Case c = packed_base(per_row ? "bias_blocks" : "bias_blocks_one_row");
    c.terms.bias = {.form = BiasForm::blocks, .per_row = per_row, .before_scale = per_row};
    list.add(c);
    c.name += "_causal", c.bottom_right = kCausal, c.terms.bias.dtype = FUSEDATTN_FLOAT32;
    list.add(c);
  }
  for (const char* edge : {"tl", "br", "window", "bytes"}) {
    Case c = padded_base(std::string("bias_diagonal_") + edge);
    (edge[0] == 't' ? c.top_left : c.bottom_right) = edge[0] == 'w' ? fusedattn_band{20, -2} : kCausal;
    c.bytes.present = edge[1] == 'y', c.terms.bias = {.form = BiasForm::diagonal, .per_sequence = edge[0] == 't'};
    list.add(c);
    c.name += "_self", c.q_len = c.kv_len = 300, c.terms.bias.before_scale = true, c.dim = c.dim_v = 5;
    list.add(c);
  }
  Case c = packed_base("bias_diagonal_packed");
  c.q_len = c.kv_len, c.q_ends = c.kv_ends, c.top_left = kCausal;
  c.terms.bias = {.form = BiasForm::diagonal, .per_sequence = false};
  list.add(c);
  c = long_base("bias_long"), c.terms.bias = {.form = BiasForm::strided, .per_row = false};
  list.add(c);
  c.name = "bias_long_causal", c.bottom_right = kCausal, c.terms.bias.per_row = true, c.terms.bias.per_head = false;
  list.add(c);
}

inline void add_alibi_cases(CaseList& list) {
  for (int switches = 0; switches < 16; ++switches) {
    AlibiTerm alibi{.present = true, .per_sequence = (switches & 1) != 0, .square_root = (switches & 2) != 0,
                    .bottom_right = (switches & 4) != 0, .first_sequence = (switches & 8) != 0};
    if (switches % 3 != 0) alibi.q_start = 17, alibi.kv_start = switches % 2 ? -5 : 40;
    Case c = padded_base("alibi" + std::to_string(switches));
    c.terms.alibi = alibi, c.bottom_right = switches % 2 ? kCausal : kNoBand;
    list.add(c);
    c = packed_base("alibi_packed" + std::to_string(switches));
    c.terms.alibi = alibi, c.top_left = switches % 2 ? kNoBand : kCausal;
    list.add(c);
  }
  Case c = long_base("alibi_long");
  c.terms.alibi = {.present = true, .q_start = 3, .bottom_right = true}, c.bottom_right = kCausal;
  list.add(c);
  c.name = "alibi_scale_negative", c.scale = -0.4, c.terms.alibi.square_root = true;
  list.add(c);
  c.name = "alibi_scale0", c.scale = 0.0, c.q_len = 20;
  list.add(c);
}

// A cap far above the scores, about at them, and so far below that most are at it.
inline void add_softcap_cases(CaseList& list) {
  for (const double cap : {1e6, 2.0, 0.3}) {
    Case c = padded_base("softcap" + std::to_string(cap));
    c.terms.softcap = cap, c.scale = cap < 1 ? 0.5 : NAN;
    list.add(c);
    c.name += "_causal", c.bottom_right = kCausal, c.scale = -0.4, c.layout = Layout::gaps, c.terms.sink = true;
    list.add(c);
    c = packed_base(c.name + "_packed"), c.terms.softcap = cap, c.top_left = kCausal, c.terms.dropout = {.keep_prob = 0.6, .seed = 4};
    list.add(c);
    c = few_lines_base("softcap_few_lines" + std::to_string(cap)), c.terms.softcap = cap, c.batch = 1;
    list.add(c);
  }
  Case c = padded_base("softcap_bytes");
  c.terms.softcap = 1.0, c.bytes.present = true;
  list.add(c);
  c.name = "softcap_alibi", c.bytes.present = false, c.terms.alibi = {.present = true, .bottom_right = true};
  list.add(c);
  c.name = "softcap_bias", c.terms.alibi.present = false, c.terms.bias = {.form = BiasForm::strided, .per_row = false};
  list.add(c);
  c.name = "softcap_scale0", c.scale = 0.0, c.terms.bias.form = BiasForm::none;
  list.add(c);
  c = long_base("softcap_long"), c.terms.softcap = 1.0, c.bottom_right = {300, 2};
  list.add(c);
}

inline void add_dropout_cases(CaseList& list) {
  for (const bool bits : {false, true}) {
    const std::string name = bits ? "dropout_bits" : "dropout_seed";
    const DropoutTerm dropout{.keep_prob = 0.8, .bits = bits, .seed = 0x123456789ABCDEF0, .offset = 0xFEDCBA9876543210};
    for (const int64_t rows : {1, 7, 45}) {
      Case c = padded_base(name + "_rows" + std::to_string(rows));
      c.q_len = rows, c.terms.dropout = dropout;
      list.add(c);
    }
    Case c = padded_base(name + "_causal");
    c.bottom_right = kCausal, c.terms.dropout = dropout, c.layout = Layout::gaps;
    list.add(c);
    c.name = name + "_bytes", c.bytes.present = true;
    list.add(c);
    c = packed_base(name + "_packed"), c.terms.dropout = dropout;
    list.add(c);
    c.name += "_causal", c.bottom_right = kCausal;
    list.add(c);
    c = long_base(name + "_long"), c.terms.dropout = dropout;
    list.add(c);
    c.name += "_window", c.bottom_right = {200, 3}, c.terms.dropout.keep_prob = 0.1;
    list.add(c);
  }
  Case c = padded_base("dropout_bits_of_1");
  c.terms.dropout = {.bits = true, .seed = 9};
  list.add(c);
}

inline void add_sink_cases(CaseList& list) {
  Case c = padded_base("sink");
  c.terms.sink = true;
  list.add(c);
  c.name = "sink_causal", c.top_left = kCausal, c.layout = Layout::gaps;
  list.add(c);
  c.name = "sink_masked_rows", c.top_left = {FUSEDATTN_UNBOUNDED, -30}, c.layout = Layout::bnsd;
  list.add(c);
  c.name = "sink_nothing_seen", c.top_left = {-5, 4};
  list.add(c);
  c = padded_base("sink_bytes"), c.bytes.present = true, c.terms.sink = true;
  list.add(c);
  c = packed_base("sink_packed"), c.terms.sink = true, c.bottom_right = kCausal;
  list.add(c);
  c = padded_base("sink_no_columns"), c.kv_len = 0, c.terms.sink = true;
  list.add(c);
  c = long_base("sink_long"), c.terms.sink = true, c.scale = -1.0;
  list.add(c);
}

inline void add_prefix_cases(CaseList& list) {
  const fusedattn_band shifted{FUSEDATTN_UNBOUNDED, -3};
  for (const bool bottom_right : {true, false}) {
    Case c = padded_base(bottom_right ? "prefix_br" : "prefix_tl");
    c.prefix = {30, 0}, (bottom_right ? c.bottom_right : c.top_left) = kCausal;
    list.add(c);
    c.name += "_tall", c.q_len = 83, c.kv_len = 45, c.prefix = {44, 60}, c.bytes.present = true;
    list.add(c);
    c = packed_base(bottom_right ? "prefix_packed_br" : "prefix_packed_tl");
    c.prefix = {2, 5, 0, 40, 1, 7}, (bottom_right ? c.bottom_right : c.top_left) = shifted;
    list.add(c);
  }
  Case c = long_base("prefix_long");
  c.prefix = {600}, c.bottom_right = shifted, c.top_left = kCausal;
  list.add(c);
}

inline void add_few_lines_cases(CaseList& list) {
  for (const int64_t rows : {1, 2, 3, 4, 5, 40}) {
    Case c = few_lines_base("few_lines" + std::to_string(rows));
    c.batch = 1, c.q_len = rows;
    list.add(c);
    c.name += "_group1", c.q_heads = 2, c.dim = 48, c.dim_v = 16, c.layout = Layout::bsnd, c.bottom_right = kCausal;
    list.add(c);
  }
  Case c = few_lines_base("few_lines_window");
  c.bottom_right = {1500, -700};
  list.add(c);
  c.name = "few_lines_nothing_seen", c.bottom_right = {-1, 0}, c.top_left = {0, -1};
  list.add(c);
  c = few_lines_base("few_lines_bytes"), c.bytes = {.present = true, .per_row = false};
  list.add(c);
  c = few_lines_base("few_lines_terms"), c.scale = -0.3;
  c.terms = {.bias = {.form = BiasForm::strided}, .alibi = {.present = true, .bottom_right = true}, .dropout = {.keep_prob = 0.7, .seed = 3}, .sink = true};
  list.add(c);
  c = few_lines_base("few_lines_packed"), c.layout = Layout::bsnd, c.terms.sink = true;
  c.batch = 3, c.q_len = 60, c.kv_len = 4700, c.q_ends = {1, 50, 53}, c.kv_ends = {2200, 2290, 4600};
  list.add(c);
}

inline void add_bands_and_forms(CaseList& list) {
  Case c = padded_base("bands");
  c.bands = {{10, 3}, {-4, FUSEDATTN_UNBOUNDED}};
  list.add(c);
  c.name = "bands_causal", c.bands = {{40, 5}, kNoBand}, c.bottom_right = kCausal, c.bytes.present = true;
  list.add(c);
  c = packed_base("bands_packed");
  c.bands = {kNoBand, {1, 1}, {0, 0}, {-5, 4}, {int64_t{1} << 62, 0}, {9, 2}}, c.layout = Layout::gaps;
  list.add(c);
  c = packed_base("bytes_whole"), c.bytes = {.present = true, .whole = true};
  list.add(c);
  c.name = "bytes_whole_causal", c.bottom_right = kCausal, c.bytes.per_head = false, c.bytes.meaning = FUSEDATTN_NONZERO_SHOWS;
  list.add(c);
  c.name = "bytes_whole_one_row", c.bytes.per_row = false;
  list.add(c);
  for (const bool blocks : {false, true}) {
    c = packed_base(blocks ? "stats_blocks" : "stats_lanes_packed");
    c.stats = {.lanes = blocks ? 1 : 8, .blocks = blocks}, c.bottom_right = kCausal, c.layout = Layout::gaps;
    list.add(c);
  }
  c.name = "stats_blocks_lanes", c.stats.lanes = 8, c.layout = Layout::bsnd;
  list.add(c);
  c = padded_base("stats_lanes"), c.stats.lanes = 8, c.layout = Layout::sbnd;
  list.add(c);
}

// Everything at once that may be used at once.
inline Case all_terms_padded() {
  Case c = padded_base("all_terms");
  c.top_left = {FUSEDATTN_UNBOUNDED, 20}, c.prefix = {30, 4}, c.bytes.present = true;
  c.terms = {.softcap = 3.0,
             .bias = {.form = BiasForm::strided, .per_head = false, .dtype = FUSEDATTN_BFLOAT16},
             .alibi = {.present = true, .q_start = 2, .kv_start = 9, .first_sequence = true},
             .dropout = {.keep_prob = 0.7, .seed = 77, .offset = 5},
             .sink = true};
  c.stats.lanes = 8;
  return c;
}

inline Case all_terms_packed() {
  Case c = packed_base("all_terms_packed");
  c.bottom_right = kCausal, c.bands = {kNoBand, {1, 1}, kNoBand, {25, 5}, kNoBand, {40, 30}};
  c.bytes = {.present = true, .per_head = false, .whole = true};
  c.terms = {.bias = {.form = BiasForm::blocks, .before_scale = true},
             .alibi = {.present = true, .per_sequence = false, .square_root = true, .bottom_right = true},
             .dropout = {.keep_prob = 0.6, .bits = true, .seed = 78},
             .sink = true};
  c.stats = {.lanes = 8, .blocks = true};
  return c;
}

inline Case all_terms_long() {
  Case c = long_base("all_terms_long");
  c.bottom_right = kCausal;
  c.terms = {.softcap = 2.0,
             .bias = {.form = BiasForm::strided, .per_row = false},
             .alibi = {.present = true, .bottom_right = true},
             .dropout = {.keep_prob = 0.9, .seed = 1},
             .sink = true};
  return c;
}

inline std::vector<Case> term_cases() {
  CaseList list;
  add_bias_cases(list);
  add_alibi_cases(list);
  add_softcap_cases(list);
  add_dropout_cases(list);
  add_sink_cases(list);
  add_prefix_cases(list);
  add_few_lines_cases(list);
  add_bands_and_forms(list);
  for (const Case& c : {all_terms_padded(), all_terms_packed(), all_terms_long()}) list.add(c);
  Case c = all_terms_packed();
  c.name = "all_terms_strided", c.terms.bias = {.form = BiasForm::strided, .per_sequence = false}, c.layout = Layout::gaps;
  list.add(c);
  c = all_terms_padded(), c.name = "all_terms_grouped", c.kv_heads = 1, c.q_len = 7, c.layout = Layout::sbnd;
  list.add(c);
  return list.cases;
}

}  // namespace fusedattn::tests
#endif
