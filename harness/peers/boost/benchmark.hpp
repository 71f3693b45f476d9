// The program for the benchmarks: docs/benchmarks.md has its protocol.
//
// One thread, asynchronous operations, an io_context: each workload is a chain of
// completion handlers, as in Asio's own examples.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/streambuf.hpp>

#include <chrono>
#include <cstdio>
#include <ctime>
#include <functional>
#include <thread>

#include "boost.hpp"

namespace benchmark {

constexpr std::size_t default_read = 65536;

struct Sample { double seconds, cpu; };

class Stopwatch {
  static double clock(clockid_t which) {
    timespec now{};
    clock_gettime(which, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
  }
  double cpu = clock(CLOCK_PROCESS_CPUTIME_ID);
  double wall = clock(CLOCK_MONOTONIC);

public:
  Sample sample() const {
    double seconds = clock(CLOCK_MONOTONIC) - wall;
    return {seconds, clock(CLOCK_PROCESS_CPUTIME_ID) - cpu};
  }
};

inline void check(const error_code& error) {
  if (error) fail(error.message());
}

inline void print(const std::vector<Sample>& samples) {
  for (const Sample& each : samples)
    std::printf("{\"seconds\": %.9f, \"cpu\": %.9f}\n", each.seconds, each.cpu);
}

// The client: a sample is a chain of handlers.

class Client {
  asio::io_context& io;
  ssl::context& context;
  tcp::endpoint endpoint;
  std::string kind, host;
  std::size_t size, piece, left = 0;
  std::vector<char> buffer, message;
  std::unique_ptr<Stream> stream;
  SSL_SESSION* session = nullptr;
  Stopwatch watch;
  unsigned repeat;
  std::vector<Sample> samples;
  using Next = std::function<void()>;

public:
  Client(asio::io_context& io, ssl::context& context, tcp::endpoint endpoint,
         std::string kind, std::string host, unsigned repeat, std::size_t size,
         std::size_t piece)
      : io(io), context(context), endpoint(endpoint), kind(kind), host(host),
        size(size), piece(piece),
        buffer(kind == "receive" && piece ? piece : default_read),
        message(kind == "send" ? piece : size), repeat(repeat) {
    samples.reserve(repeat);
  }

  const std::vector<Sample>& run() {
    begin();
    io.run();
    return samples;
  }

private:
  void begin() {
    if (samples.size() == repeat) return;
    if (kind == "connect" || kind == "connect-resumed") watch = Stopwatch();
    stream = std::make_unique<Stream>(io, context);
    if (session) SSL_set_session(stream->native_handle(), session);
    stream->set_verify_callback(ssl::host_name_verification(host));
    stream->lowest_layer().async_connect(endpoint, [this](error_code error) {
      check(error);
      stream->lowest_layer().set_option(tcp::no_delay(true));
      stream->async_handshake(Stream::client, [this](error_code error) {
        check(error);
        opened();
      });
    });
  }

  void opened() {
    if (kind == "ping-pong") return ping();
    if (kind == "receive") return read([this] { receive(); });
    if (kind == "send") return read([this] { send(); });
    exchange([this] {  // shutdown, close, abort, connect, connect-resumed
      if (kind == "connect-resumed" && !session) {
        session = SSL_get1_session(stream->native_handle());
        return close([] {});
      }
      if (kind != "connect" && kind != "connect-resumed") {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        watch = Stopwatch();
      }
      if (kind == "abort") {
        stream->lowest_layer().close();
        samples.push_back(watch.sample());
        return begin();
      }
      close([this] { samples.push_back(watch.sample()); });
    });
  }

  void write(Next next) {
    asio::async_write(*stream, asio::buffer(message),
                      [next](error_code error, std::size_t) { check(error); next(); });
  }

  void read(Next next) {
    stream->async_read_some(asio::buffer(buffer),
                            [next](error_code error, std::size_t) { check(error); next(); });
  }

  void exchange(Next next) {
    write([this, next] { read(next); });
  }

  // async_shutdown waits for the other end's close_notify.
  void close(Next next) {
    stream->async_shutdown([this, next](error_code error) {
      check(error);
      stream->lowest_layer().close();
      next();
      begin();
    });
  }

  void finish() {
    samples.push_back(watch.sample());
    close([] {});
  }

  void ping() {
    watch = Stopwatch();
    exchange([this] {
      samples.push_back(watch.sample());
      if (samples.size() < repeat) return ping();
      close([] {});
    });
  }

  void receive() {
    left = size;
    message.resize(1);
    watch = Stopwatch();
    write([this] { receive_more(); });
  }

  void receive_more() {
    stream->async_read_some(asio::buffer(buffer), [this](error_code error, std::size_t count) {
      check(error);
      left -= count;
      if (left) receive_more(); else finish();
    });
  }

  void send() {
    left = size / piece;
    watch = Stopwatch();
    send_more();
  }

  void send_more() {
    asio::async_write(*stream, asio::buffer(message), [this](error_code error, std::size_t) {
      check(error);
      if (--left) send_more(); else read([this] { finish(); });
    });
  }
};

// The server: each connection sends back what comes, until all are told to end.

struct Connection : std::enable_shared_from_this<Connection> {
  Stream stream;
  std::size_t& open;
  const std::function<void()>& ended;
  char buffer[4096];

  Connection(Stream stream, std::size_t& open, const std::function<void()>& ended)
      : stream(std::move(stream)), open(open), ended(ended) {}

  void begin() {
    ++open;
    stream.lowest_layer().set_option(tcp::no_delay(true));
    stream.async_handshake(Stream::server, [self = shared_from_this()](error_code error) {
      check(error);
      self->echo();
    });
  }

  void echo() {
    stream.async_read_some(asio::buffer(buffer), [self = shared_from_this()](error_code error, std::size_t count) {
      if (error) return self->end();  // the client has ended it, or the server cancelled it
      asio::async_write(self->stream, asio::buffer(self->buffer, count),
                        [self](error_code error, std::size_t) { check(error); self->echo(); });
    });
  }

  void cancel() {
    error_code closed;
    stream.lowest_layer().cancel(closed);
  }

  void end() {
    stream.async_shutdown([self = shared_from_this()](error_code error) {
      check(error);
      self->stream.lowest_layer().close();
      --self->open;
      self->ended();
    });
  }
};

class Server {
  asio::io_context& io;
  ssl::context& context;
  tcp::acceptor acceptor;
  asio::posix::stream_descriptor control;
  asio::streambuf line;
  std::vector<std::shared_ptr<Connection>> connections;
  std::size_t open = 0;
  Stopwatch watch;
  std::vector<Sample> samples;
  bool stopping = false;
  std::function<void()> ended = [this] {
    if (!stopping || open) return;
    samples.push_back(watch.sample());
    io.stop();
  };

public:
  Server(asio::io_context& io, ssl::context& context, tcp::endpoint endpoint)
      : io(io), context(context), acceptor(io, endpoint), control(io, ::dup(0)) {}

  const std::vector<Sample>& run() {
    std::printf("{\"port\": %d}\n", acceptor.local_endpoint().port());
    std::fflush(stdout);
    accept();
    asio::async_read_until(control, line, '\n', [this](error_code, std::size_t) {
      watch = Stopwatch();
      acceptor.close();
      stopping = true;
      for (auto& connection : connections) connection->cancel();
    });
    io.run();
    return samples;
  }

private:
  void accept() {
    acceptor.async_accept([this](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      check(error);
      connections.push_back(std::make_shared<Connection>(
          Stream(std::move(socket), context), open, ended));
      connections.back()->begin();
      accept();
    });
  }
};

inline void run(const std::string& role, const std::string& kind, const std::string& host,
                unsigned short port, const std::string& file,
                const std::vector<std::string>& numbers) {
  std::printf("{\"version\": \"Boost %s, %s\"}\n", BOOST_LIB_VERSION, OpenSSL_version(OPENSSL_VERSION));
  std::fflush(stdout);
  if (kind == "half-close") {
    std::puts("{\"cannot\": \"async_shutdown waits for the peer's close_notify, and reads no data\"}");
    return;
  }
  asio::io_context io(1);
  tcp::endpoint endpoint(asio::ip::make_address(host), port);
  if (role == "server") {
    auto context = server_context(ssl::context::tlsv13_server, file, file);
    print(Server(io, context, endpoint).run());
  } else {
    auto context = client_context(ssl::context::tlsv13_client, file);
    print(Client(io, context, endpoint, kind, host, std::stoul(numbers.at(0)),
                 std::stoul(numbers.at(1)), std::stoul(numbers.at(2))).run());
  }
}

}  // namespace benchmark
