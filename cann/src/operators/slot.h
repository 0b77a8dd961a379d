// A tensor parameter of an interface, read; and the faults that any operator finds with one.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "operators/staging.h"

namespace fusedattn::cann {

using Sentence = std::optional<std::string>;

struct Slot {
  const char* name = "";  // as the interface calls it
  bool dead = false;      // a handle of nothing that lives
  std::shared_ptr<const Tensor> tensor;
  Source source;

  explicit operator bool() const { return tensor != nullptr; }
  const Tensor* operator->() const { return tensor.get(); }
  const Tensor& operator*() const { return *tensor; }
};

Slot read_slot(const char* name, const aclTensor* given, const Source& source);

// "query has shape [1, 2, 3]"; "query has dtype ACL_FLOAT"
std::string shape_of(const Slot& slot);
std::string dtype_of(const Slot& slot);
// "1.5"
std::string number(double value);

// The address of the first element; null where there is none yet, or nothing there.
const void* address_of(const Slot& slot);

// The first of these that is written and overlaps itself, has the address of another, or is not aligned; `may_share` says which
// outputs may lie exactly on which inputs. Sentences without what is accepted.
Sentence overlapping(std::span<const Slot> slots);
Sentence sharing(std::span<const Slot> slots, bool (*may_share)(const Slot& output, const Slot& other) = nullptr);
Sentence misaligned(std::span<const Slot> slots);

// An attribute text; nullopt if it is null or not terminated within 64 characters.
std::optional<std::string> read_text(const char* given);

// Refuses a phase 1 without a place for its results.
int no_results(const char* function, const std::uint64_t* workspace_size);

}  // namespace fusedattn::cann
