// What the lab and the benchmarks share.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <boost/version.hpp>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace asio = boost::asio;
namespace ssl = asio::ssl;
using asio::ip::tcp;
using boost::system::error_code;
using Stream = ssl::stream<tcp::socket>;

[[noreturn]] inline void fail(const std::string& what) {
  std::cerr << "Error: " << what << std::endl;
  std::exit(1);
}

inline ssl::context server_context(ssl::context::method method,
                                   const std::string& certificate,
                                   const std::string& key) {
  ssl::context context(method);
  context.use_certificate_chain_file(certificate);
  context.use_private_key_file(key, ssl::context::pem);
  return context;
}

inline ssl::context client_context(ssl::context::method method, const std::string& ca) {
  ssl::context context(method);
  context.load_verify_file(ca);
  context.set_verify_mode(ssl::verify_peer);
  return context;
}
