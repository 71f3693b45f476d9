// Boost.Asio.
//
//   PROGRAM lab CERTIFICATE KEY CA
//   PROGRAM client|server KIND HOST PORT FILE NUMBER...
#include "benchmark.hpp"
#include "lab.hpp"

int main(int count, char** arguments) {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  try {
    if (words.at(0) == "lab") {
      lab::run(words.at(1), words.at(2), words.at(3));
    } else {
      benchmark::run(words.at(0), words.at(1), words.at(2), std::stoul(words.at(3)),
                     words.at(4), {words.begin() + 5, words.end()});
    }
  } catch (const std::exception& error) {
    fail(error.what());
  }
}
