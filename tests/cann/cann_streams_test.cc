// Streams, events, host functions and callbacks, from one thread and from several. Runs with workers, and with work run by the caller.
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <vector>

#include "acl_check.h"

namespace {

const int device = aclrtSetDevice(0);  // of this thread, for all tests
const bool synchronous = std::getenv("FUSEDATTN_ACL_SYNC") != nullptr;

struct Stream {
  Stream() { FINE(aclrtCreateStream(&handle)); }
  ~Stream() {
    if (handle != nullptr) FINE(aclrtDestroyStream(handle));
  }
  aclrtStream handle = nullptr;
};

struct Event {
  Event() { FINE(aclrtCreateEvent(&handle)); }
  ~Event() { FINE(aclrtDestroyEvent(handle)); }
  aclrtEvent handle = nullptr;
};

// A gate that a stream waits at until it is opened.
struct Gate {
  std::atomic<bool> reached = false, open = synchronous;
  static void wait(void* gate) {
    auto& self = *static_cast<Gate*>(gate);
    self.reached = true;
    while (!self.open) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
};

void sleep_a_little(void*) { std::this_thread::sleep_for(std::chrono::milliseconds(2)); }
void count(void* counter) { ++*static_cast<std::atomic<int>*>(counter); }

struct Order {
  std::vector<int> seen;
};
struct Step {
  Order* order;
  int number;
  static void run(void* step) {
    auto& self = *static_cast<Step*>(step);
    self.order->seen.push_back(self.number);
  }
};

}  // namespace

TEST(work_runs_in_the_order_of_submission) {
  CHECK_EQ(device, 0);
  const Stream stream;
  Order order;
  std::vector<Step> steps;
  for (int i = 0; i < 500; ++i) steps.push_back({&order, i});
  for (Step& step : steps) FINE(aclrtLaunchHostFunc(stream.handle, Step::run, &step));
  FINE(aclrtSynchronizeStream(stream.handle));
  CHECK_EQ(order.seen.size(), 500u);
  for (int i = 0; i < 500; ++i) CHECK_EQ(order.seen[i], i);
  int32_t id = -1;
  FINE(aclrtStreamGetId(stream.handle, &id));
  CHECK(id >= 0);
}

TEST(queries_and_timeouts) {
  const Stream stream;
  Gate gate;
  aclrtStreamStatus status;
  FINE(aclrtStreamQuery(stream.handle, &status));
  CHECK_EQ(status, ACL_STREAM_STATUS_COMPLETE);
  FINE(aclrtLaunchHostFunc(stream.handle, Gate::wait, &gate));
  if (!synchronous) {
    FINE(aclrtStreamQuery(stream.handle, &status));
    CHECK_EQ(status, ACL_STREAM_STATUS_NOT_READY);
    REFUSED(aclrtSynchronizeStreamWithTimeout(stream.handle, 0), 507046);
    REFUSED(aclrtSynchronizeDeviceWithTimeout(1), 507046);
  }
  REFUSED(aclrtSynchronizeStreamWithTimeout(stream.handle, -2), 107000);
  gate.open = true;
  FINE(aclrtSynchronizeStreamWithTimeout(stream.handle, -1));
  FINE(aclrtSynchronizeDevice());
}

TEST(wrong_handles_are_refused) {
  Stream stream;
  const Event event;
  int32_t id;
  for (void* wrong : {wild(), static_cast<void*>(&stream), event.handle}) {
    REFUSED(aclrtDestroyStream(wrong), 107017);
    REFUSED(aclrtDestroyStreamForce(wrong), 107017);
    REFUSED(aclrtSynchronizeStream(wrong), 107017);
    REFUSED(aclrtStreamQuery(wrong, nullptr), 100000);
    REFUSED(aclrtStreamGetId(wrong, &id), 107017);
    REFUSED(aclrtLaunchHostFunc(wrong, count, nullptr), 107017);
    REFUSED(aclrtRecordEvent(event.handle, wrong), 107017);
  }
  for (void* wrong : {wild(), stream.handle}) {
    REFUSED(aclrtRecordEvent(wrong, stream.handle), 107017);
    REFUSED(aclrtStreamWaitEvent(stream.handle, wrong), 107017);
    REFUSED(aclrtDestroyEvent(wrong), 107017);
    REFUSED(aclrtSynchronizeEvent(wrong), 107017);
  }
  REFUSED(aclrtDestroyStream(nullptr), 100000);
  REFUSED(aclrtDestroyEvent(nullptr), 100000);
  REFUSED(aclrtStreamWaitEvent(stream.handle, nullptr), 100000);
  REFUSED(aclrtLaunchHostFunc(stream.handle, nullptr, nullptr), 100000);
  aclrtStream other;
  REFUSED(aclrtCreateStreamWithConfig(&other, 8, 0), 107000);
  REFUSED(aclrtCreateStreamWithConfig(&other, 0, 0x40), 107000);
  FINE(aclrtCreateStreamWithConfig(&other, 7, ACL_STREAM_FAST_LAUNCH | ACL_STREAM_FAST_SYNC));
  FINE(aclrtDestroyStreamForce(other));
  REFUSED(aclrtDestroyStream(other), 107017);
  aclrtEvent flagged;
  REFUSED(aclrtCreateEventWithFlag(&flagged, 0), 107000);
  REFUSED(aclrtCreateEventExWithFlag(&flagged, 0x80), 107000);
  FINE(aclrtCreateEventExWithFlag(&flagged, ACL_EVENT_TIME_LINE | ACL_EVENT_SYNC));
  FINE(aclrtDestroyEvent(flagged));
  REFUSED(aclrtDestroyEvent(flagged), 107017);
}

TEST(destroying_waits_and_forcing_drops) {
  std::atomic<int> ran = 0;
  {
    const Stream stream;
    FINE(aclrtLaunchHostFunc(stream.handle, sleep_a_little, nullptr));
    for (int i = 0; i < 10; ++i) FINE(aclrtLaunchHostFunc(stream.handle, count, &ran));
  }
  CHECK_EQ(ran.load(), 10);
  if (synchronous) return;
  Stream stream;
  const Event event;
  Gate gate;
  FINE(aclrtLaunchHostFunc(stream.handle, Gate::wait, &gate));
  FINE(aclrtLaunchHostFunc(stream.handle, count, &ran));
  FINE(aclrtRecordEvent(event.handle, stream.handle));
  while (!gate.reached) std::this_thread::yield();
  std::thread opener([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    gate.open = true;
  });
  FINE(aclrtDestroyStreamForce(stream.handle));
  stream.handle = nullptr;
  opener.join();
  CHECK_EQ(ran.load(), 10);
  FINE(aclrtSynchronizeEvent(event.handle));  // was dropped with the stream: nobody waits for ever
  float ms;
  REFUSED(aclrtEventElapsedTime(&ms, event.handle, event.handle), 107006);
}

TEST(events_order_streams_and_tell_the_time) {
  const Stream first, second;
  const Event start, end;
  float ms = -1;
  uint64_t stamp = 0;
  REFUSED(aclrtEventElapsedTime(&ms, start.handle, end.handle), 107000);
  REFUSED(aclrtEventGetTimestamp(start.handle, &stamp), 107000);
  FINE(aclrtStreamWaitEvent(second.handle, start.handle));  // never recorded: no wait
  FINE(aclrtSynchronizeEvent(start.handle));
  aclrtEventRecordedStatus recorded;
  FINE(aclrtQueryEventStatus(start.handle, &recorded));
  CHECK_EQ(recorded, ACL_EVENT_RECORDED_STATUS_NOT_READY);

  Gate gate;
  std::atomic<int> ran = 0;
  FINE(aclrtRecordEvent(start.handle, first.handle));
  FINE(aclrtLaunchHostFunc(first.handle, sleep_a_little, nullptr));
  FINE(aclrtLaunchHostFunc(first.handle, Gate::wait, &gate));
  FINE(aclrtRecordEvent(end.handle, first.handle));
  FINE(aclrtStreamWaitEvent(second.handle, end.handle));
  FINE(aclrtLaunchHostFunc(second.handle, count, &ran));
  if (!synchronous) {
    aclrtEventStatus old;
    aclrtEventWaitStatus waits;
    FINE(aclrtQueryEvent(end.handle, &old));
    CHECK_EQ(old, ACL_EVENT_STATUS_NOT_READY);
    FINE(aclrtQueryEventWaitStatus(end.handle, &waits));
    CHECK_EQ(waits, ACL_EVENT_WAIT_STATUS_NOT_READY);
    REFUSED(aclrtSynchronizeEventWithTimeout(end.handle, 1), 507047);
    REFUSED(aclrtEventElapsedTime(&ms, start.handle, end.handle), 107006);
    CHECK_EQ(ran.load(), 0);
  }
  REFUSED(aclrtSynchronizeEventWithTimeout(end.handle, -2), 107000);
  gate.open = true;
  FINE(aclrtSynchronizeEvent(end.handle));
  FINE(aclrtSynchronizeStream(second.handle));
  CHECK_EQ(ran.load(), 1);
  FINE(aclrtEventElapsedTime(&ms, start.handle, end.handle));
  CHECK(ms >= 2.0f && ms < 60000.0f);
  REFUSED(aclrtEventElapsedTime(&ms, end.handle, start.handle), 107007);
  REFUSED(aclrtEventElapsedTime(nullptr, end.handle, start.handle), 100000);
  FINE(aclrtEventGetTimestamp(end.handle, &stamp));
  CHECK(stamp > 0);
  FINE(aclrtQueryEventStatus(end.handle, &recorded));
  CHECK_EQ(recorded, ACL_EVENT_RECORDED_STATUS_COMPLETE);
  FINE(aclrtResetEvent(end.handle, second.handle));
  FINE(aclrtSynchronizeStream(second.handle));
  FINE(aclrtQueryEventStatus(end.handle, &recorded));
  CHECK_EQ(recorded, ACL_EVENT_RECORDED_STATUS_NOT_READY);
}

TEST(an_event_may_be_destroyed_while_it_is_pending) {
  const Stream first, second;
  std::atomic<int> ran = 0;
  {
    const Event event;
    FINE(aclrtLaunchHostFunc(first.handle, sleep_a_little, nullptr));
    FINE(aclrtRecordEvent(event.handle, first.handle));
    FINE(aclrtStreamWaitEvent(second.handle, event.handle));
  }
  FINE(aclrtLaunchHostFunc(second.handle, count, &ran));
  FINE(aclrtSynchronizeStream(second.handle));
  CHECK_EQ(ran.load(), 1);
}

TEST(host_functions_may_submit_but_not_wait_for_themselves) {
  static aclrtStream inner;
  static std::atomic<int> ran, code;
  ran = code = 0;
  const Stream stream;
  inner = stream.handle;
  FINE(aclrtLaunchHostFunc(
      stream.handle,
      [](void*) {
        aclrtLaunchHostFunc(inner, count, &ran);
        code = aclrtSynchronizeStream(inner);
        if (aclrtDestroyStream(inner) == 0 || aclrtResetDevice(0) == 0) code = 1;
      },
      nullptr));
  FINE(aclrtSynchronizeStream(stream.handle));
  FINE(aclrtSynchronizeStream(stream.handle));
  CHECK_EQ(ran.load(), 1);
  CHECK_EQ(code.load(), 107000);
}

TEST(the_null_stream_is_the_contexts_own) {
  std::atomic<int> ran = 0;
  FINE(aclrtLaunchHostFunc(nullptr, count, &ran));
  FINE(aclrtSynchronizeStream(nullptr));
  CHECK_EQ(ran.load(), 1);
  std::thread([&] { REFUSED(aclrtLaunchHostFunc(nullptr, count, &ran), 107002); }).join();
}

TEST(callbacks_run_on_the_subscribed_thread) {
  const Stream stream;
  static std::atomic<int> ran;
  static pthread_t where;
  ran = 0;
  const auto note = [](void*) {
    where = pthread_self();
    ++ran;
  };
  REFUSED(aclrtLaunchCallback(note, nullptr, ACL_CALLBACK_BLOCK, stream.handle), 107015);
  REFUSED(aclrtProcessReport(0), 100035);
  REFUSED(aclrtProcessReport(-2), 100000);
  std::atomic<bool> subscribed = false, done = false;
  std::thread server([&] {
    FINE(aclrtSubscribeReport(static_cast<uint64_t>(pthread_self()), stream.handle));
    REFUSED(aclrtSubscribeReport(static_cast<uint64_t>(pthread_self()), stream.handle), 100033);
    REFUSED(aclrtProcessReport(0), 100036);
    subscribed = true;
    while (!done) aclrtProcessReport(1);
    FINE(aclrtUnSubscribeReport(static_cast<uint64_t>(pthread_self()), stream.handle));
    REFUSED(aclrtUnSubscribeReport(static_cast<uint64_t>(pthread_self()), stream.handle), 100034);
  });
  while (!subscribed) std::this_thread::yield();
  FINE(aclrtLaunchCallback(note, nullptr, ACL_CALLBACK_BLOCK, stream.handle));
  FINE(aclrtSynchronizeStream(stream.handle));
  CHECK_EQ(ran.load(), 1);
  CHECK(pthread_equal(where, server.native_handle()));
  FINE(aclrtLaunchCallback(note, nullptr, ACL_CALLBACK_NO_BLOCK, stream.handle));
  REFUSED(aclrtLaunchCallback(note, nullptr, static_cast<aclrtCallbackBlockType>(2), stream.handle), 100000);
  while (ran != 2) std::this_thread::yield();
  done = true;
  server.join();
}

TEST(a_thread_that_waits_for_its_own_callbacks_runs_them) {
  Stream stream;
  std::atomic<int> ran = 0;
  FINE(aclrtSubscribeReport(static_cast<uint64_t>(pthread_self()), stream.handle));
  FINE(aclrtLaunchCallback(count, &ran, ACL_CALLBACK_BLOCK, stream.handle));
  FINE(aclrtSynchronizeStream(stream.handle));
  CHECK_EQ(ran.load(), 1);
  FINE(aclrtLaunchCallback(count, &ran, ACL_CALLBACK_BLOCK, stream.handle));
  FINE(aclrtDestroyStream(stream.handle));
  stream.handle = nullptr;
  CHECK_EQ(ran.load(), 2);
}

TEST(a_stream_with_a_deaf_subscriber_can_be_destroyed) {
  if (synchronous) return;  // the caller itself would wait for it
  Stream stream;
  std::atomic<int> ran = 0;
  std::atomic<bool> subscribed = false, done = false;
  std::thread deaf([&] {  // lives on: the number of a thread that has ended may become the worker's
    FINE(aclrtSubscribeReport(static_cast<uint64_t>(pthread_self()), stream.handle));
    subscribed = true;
    while (!done) std::this_thread::yield();
  });
  while (!subscribed) std::this_thread::yield();
  FINE(aclrtLaunchCallback(count, &ran, ACL_CALLBACK_BLOCK, stream.handle));
  FINE(aclrtDestroyStream(stream.handle));
  stream.handle = nullptr;
  CHECK_EQ(ran.load(), 0);
  done = true;
  deaf.join();
}

TEST(threads_share_streams) {
  const Stream streams[2];
  const Event events[2];
  std::atomic<int> ran = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        aclrtLaunchHostFunc(streams[(t + i) % 2].handle, count, &ran);
        aclrtRecordEvent(events[t % 2].handle, streams[t % 2].handle);
        aclrtStreamWaitEvent(streams[1 - t % 2].handle, events[i % 2].handle);
        if (i % 10 == 0) aclrtSynchronizeStream(streams[i % 2].handle);
        aclrtStream own = nullptr;
        aclrtSetDevice(0);
        aclrtCreateStream(&own);
        aclrtLaunchHostFunc(own, count, &ran);
        aclrtDestroyStream(own);
        aclrtResetDevice(0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Stream& stream : streams) FINE(aclrtSynchronizeStream(stream.handle));
  CHECK_EQ(ran.load(), 400);
}

#if !defined(__SANITIZE_THREAD__)  // which stops forks of programs with threads
TEST(a_forked_child_starts_anew) {
  const Stream stream, unused;
  std::atomic<int> ran = 0;
  FINE(aclrtLaunchHostFunc(stream.handle, count, &ran));
  FINE(aclrtSynchronizeStream(stream.handle));
  const pid_t child = fork();
  if (child == 0) {
    std::atomic<int> here = 0;
    bool good = synchronous || aclrtLaunchHostFunc(stream.handle, count, &here) != 0;
    good = good && aclrtLaunchHostFunc(unused.handle, count, &here) == 0 && aclrtSynchronizeStream(unused.handle) == 0;
    aclrtStream own = nullptr;
    good = good && aclrtCreateStream(&own) == 0 && aclrtLaunchHostFunc(own, count, &here) == 0 && aclrtDestroyStream(own) == 0;
    good = good && aclrtSynchronizeDevice() == 0 && aclrtDestroyStream(stream.handle) == 0 && here == 2;
    _exit(good ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK_EQ(status, 0);
}
#endif

// Last: the program ends with work in flight, which must not keep it, and with a callback that nobody takes.
TEST(the_end_comes_with_work_in_flight) {
  aclrtStream stream, waiting;
  static std::atomic<int> ran;
  FINE(aclrtCreateStream(&stream));
  FINE(aclrtCreateStream(&waiting));
  aclrtEvent event;
  FINE(aclrtCreateEvent(&event));
  FINE(aclrtSubscribeReport(1, stream));
  FINE(aclrtLaunchCallback(count, &ran, synchronous ? ACL_CALLBACK_NO_BLOCK : ACL_CALLBACK_BLOCK, stream));
  FINE(aclrtRecordEvent(event, stream));
  FINE(aclrtStreamWaitEvent(waiting, event));
  for (int i = 0; i < 100; ++i) FINE(aclrtLaunchHostFunc(waiting, sleep_a_little, nullptr));
}

TEST_MAIN()
