// Adds the time of its life to a stage, if somebody asks for the stages of this call.
class Timed {
 public:
  Timed(const Problem& p, Stage stage)
      : to_(p.stage_times == nullptr ? nullptr : &p.stage_times->nanoseconds[static_cast<int>(stage)]), start_(to_ == nullptr ? 0 : now()) {}
  ~Timed() {
    if (to_ != nullptr) __atomic_fetch_add(to_, now() - start_, __ATOMIC_RELAXED);
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  static std::int64_t now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  }

  std::int64_t* const to_;
  const std::int64_t start_;
};
