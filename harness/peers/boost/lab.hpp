// The lab: tests/interop/README.md has its protocol.
//
// Besides its lines it knows `accept VERSION` and `connect PORT VERSION` (with no newer
// version of TLS), `shutdown reading` (with a read pending) and `await-input` (until
// something can be read from the transport). It answers what each handler was told:
// `OPERATION: CATEGORY VALUE MESSAGE; ...`.
#pragma once

#include <boost/asio/read.hpp>

#include <sstream>
#include <stdexcept>

#include "boost.hpp"

namespace lab {

using Bytes = std::vector<unsigned char>;

constexpr std::size_t period = 251;

// A header that promises 256 bytes, and 20 of them: RFC 9846 section 5.1.
const Bytes part_of_a_record = [] {
  Bytes bytes{0x17, 3, 3, 1, 0};
  bytes.resize(bytes.size() + 20);
  return bytes;
}();

inline Bytes stretch(std::size_t start, std::size_t size) {
  Bytes data(size);
  for (std::size_t i = 0; i < size; ++i) data[i] = (start + i) % period;
  return data;
}

inline std::string words(const char* operation, const error_code& ec) {
  std::ostringstream out;
  out << operation << ": " << ec.category().name() << ' ' << ec.value() << ' '
      << ec.message();
  return out.str();
}

inline std::string kind(const error_code& ec) {
  if (!ec || ec == asio::error::eof) return "clean";
  if (ec == ssl::error::stream_truncated) return "cut";
  if (ec == asio::error::connection_reset) return "reset";
  return "error";
}

class Lab {
public:
  Lab(const std::string& certificate, const std::string& key, const std::string& ca)
      : server_(server_context(ssl::context::tls_server, certificate, key)),
        client_(client_context(ssl::context::tls_client, ca)) {}

  unsigned port() const { return acceptor_.local_endpoint().port(); }

  std::string do_it(const std::string& command, const std::string& word,
                    const std::string& version) {
    if (command == "accept") return accept(word);
    if (command == "connect") return connect(std::stoul(word), version);
    if (command == "send") return send(std::stoul(word));
    if (command == "receive")
      return word.empty() ? receive_to_the_end() : receive(std::stoul(word));
    if (command == "shutdown") return shutdown(word == "reading");
    if (command == "close") return close();
    if (command == "close-transport") return close_transport();
    if (command == "cut-inside") {
      asio::write(stream_->next_layer(), asio::buffer(part_of_a_record));
      return close_transport();
    }
    if (command == "reset") {
      stream_->lowest_layer().set_option(asio::socket_base::linger(true, 0));
      return close_transport();
    }
    if (command == "await-input") {
      stream_->lowest_layer().wait(tcp::socket::wait_read);
      return "done";
    }
    throw std::runtime_error("there is no call to " + command);
  }

private:
  std::string accept(const std::string& version) {
    tcp::socket socket(io_);
    acceptor_.accept(socket);
    start(std::move(socket), server_, version);
    return handshake(ssl::stream_base::server);
  }

  std::string connect(unsigned short port, const std::string& version) {
    tcp::socket socket(io_);
    socket.connect({asio::ip::address_v4::loopback(), port});
    start(std::move(socket), client_, version);
    SSL_set_tlsext_host_name(stream_->native_handle(), "localhost");
    stream_->set_verify_callback(ssl::host_name_verification("localhost"));
    return handshake(ssl::stream_base::client);
  }

  void start(tcp::socket socket, ssl::context& context, const std::string& version) {
    stream_ = std::make_unique<Stream>(std::move(socket), context);
    if (version == "TLSv1.2")
      SSL_set_max_proto_version(stream_->native_handle(), TLS1_2_VERSION);
    sent_ = received_ = 0;
  }

  std::string handshake(ssl::stream_base::handshake_type type) {
    stream_->handshake(type);
    return std::string("handshaken ") + SSL_get_version(stream_->native_handle());
  }

  std::string send(std::size_t size) {
    asio::write(*stream_, asio::buffer(stretch(sent_, size)));
    sent_ += size;
    return "sent";
  }

  std::string receive(std::size_t size) {
    Bytes data(size);
    asio::read(*stream_, asio::buffer(data));
    compare(data);
    return "received " + std::to_string(size);
  }

  std::string receive_to_the_end() {
    const auto before = received_;
    error_code ec;
    while (!ec) {
      Bytes data(1 << 16);
      data.resize(stream_->read_some(asio::buffer(data), ec));
      compare(data);
    }
    return end(ec, received_ - before, words("read", ec));
  }

  std::string shutdown(bool reading) {
    error_code read, result;
    Bytes data(1 << 16);
    if (reading)
      stream_->async_read_some(asio::buffer(data),
                               [&](error_code ec, std::size_t) { read = ec; });
    stream_->async_shutdown([&](error_code ec) { result = ec; });
    run();
    close_transport();
    auto what = words("shutdown", result);
    if (reading) what += "; " + words("read", read);
    return end(result, 0, what);
  }

  // No call sends close_notify without waiting for the other's. A write after a shutdown
  // fails at once, when the close_notify is on its way.
  std::string close() {
    error_code write, result;
    stream_->async_shutdown([&](error_code ec) { result = ec; });
    asio::async_write(*stream_, asio::buffer("x", 1), [&](error_code ec, std::size_t) {
      write = ec;
      close_transport();
    });
    run();
    return "done " + words("shutdown", result) + "; " + words("write", write);
  }

  std::string close_transport() {
    error_code ignored;
    stream_->lowest_layer().close(ignored);
    return "done";
  }

  void run() {
    io_.restart();
    io_.run();
  }

  void compare(const Bytes& data) {
    if (data != stretch(received_, data.size()))
      throw std::runtime_error("not what was sent");
    received_ += data.size();
  }

  static std::string end(const error_code& ec, std::size_t size,
                         const std::string& what) {
    return "end " + kind(ec) + ' ' + std::to_string(size) + ' ' + what;
  }

  asio::io_context io_;
  tcp::acceptor acceptor_{io_, {asio::ip::address_v4::loopback(), 0}};
  ssl::context server_, client_;
  std::unique_ptr<Stream> stream_;
  std::size_t sent_ = 0, received_ = 0;
};

inline void run(const std::string& certificate, const std::string& key,
                const std::string& ca) {
  Lab lab(certificate, key, ca);
  std::cout << "listening " << lab.port() << " Boost " << BOOST_VERSION / 100000 << '.'
            << BOOST_VERSION / 100 % 1000 << ", OpenSSL "
            << OpenSSL_version(OPENSSL_VERSION_STRING) << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::string command, word, version, answer;
    std::istringstream(line) >> command >> word >> version;
    try {
      answer = lab.do_it(command, word, version);
    } catch (const boost::system::system_error& error) {
      answer = "failed " + kind(error.code()) + ' ' + words("call", error.code());
    } catch (const std::exception& error) {
      answer = std::string("failed error ") + error.what();
    }
    std::cout << answer << std::endl;
  }
}

}  // namespace lab
