/* SPDX-License-Identifier: MIT
 *
 * spdlog: the peer of log.c: what a line costs whoever logs it with spdlog's asynchronous logger,
 * one thread of which writes to a file, on 1 and on 2 threads. The queue holds all lines of a
 * round. Argument: folder for the log. Prints "spdlog_threads nanoseconds" lines, the best of
 * several rounds, after each of which all lines are counted in the file.
 */
#include <spdlog/async.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include "lines.h"
#include "rounds.h"

static const int LINES = 20000;
static std::shared_ptr<spdlog::logger> logger;
static lines written;
static size_t logged;

static double log_all(void *) {
  double began = now_ns();
  for (int i = 0; i < LINES; i++)
    logger->info("request served client={} n={}", "10.0.0.7", i);
  return (now_ns() - began) / LINES;
}

static void catch_up(void *, int threads) {
  logged += (size_t)(threads * LINES);
  logger->flush();
  lines_wait(&written, logged);
}

int main(int argc, char **argv) {
  if (argc != 2 || chdir(argv[1])) return 2;
  spdlog::init_thread_pool(65536, 1);
  logger = spdlog::basic_logger_mt<spdlog::async_factory>("bench", "spdlog.log");
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l  %n: %v");
  lines_open(&written, "spdlog.log");
  rounds of = {log_all, catch_up, nullptr};
  for (int threads = 1; threads <= ROUND_THREADS_MAX; threads++)
    printf("spdlog_%d %.3f\n", threads, rounds_best(&of, threads));
  spdlog::shutdown();
  return 0;
}
