// A lab: Node.js, node:tls.

import fs from "node:fs";
import net from "node:net";
import readline from "node:readline";
import tls from "node:tls";

const [certificate, key, ca] = process.argv.slice(2).map((name) => fs.readFileSync(name));
const PERIOD = 251;
// A header that promises 256 bytes, and some of them: RFC 9846 section 5.1.
const PART_OF_A_RECORD = Buffer.concat([Buffer.from("1703030100", "hex"), Buffer.alloc(20)]);

const accepted = [];
let arrived = () => {};
// Without allowHalfOpen, Node ends our side when the other side ends.
const server = net.createServer({ allowHalfOpen: true }, (raw) => {
  accepted.push(raw);
  arrived();
});

let raw; // the TCP socket under it
let socket;
let sent, received, error;
let happened = () => {};

async function handshake(secured) {
  socket = secured;
  sent = received = 0;
  error = undefined;
  for (const event of ["secure", "secureConnect", "readable", "end", "close"]) {
    socket.on(event, () => happened());
  }
  socket.on("error", (e) => {
    error = e;
    happened();
  });
  while (!socket.getCipher()?.version) {
    if (error) throw error;
    await something();
  }
  return `handshaken ${socket.getProtocol()}`;
}

function something() {
  return new Promise((resolve) => (happened = resolve));
}

function stretch(start, size) {
  const data = Buffer.alloc(size);
  for (let i = 0; i < size; i++) data[i] = (start + i) % PERIOD;
  return data;
}

function end(size) {
  const kind = !error ? "clean" : error.code === "ECONNRESET" ? "reset" : "error";
  return `end ${kind} ${size} ${error ? error.message : ""}`;
}

const commands = {
  async accept() {
    while (!accepted.length) await new Promise((resolve) => (arrived = resolve));
    raw = accepted.shift();
    return handshake(new tls.TLSSocket(raw, { isServer: true, cert: certificate, key }));
  },

  async connect(port) {
    raw = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    return handshake(tls.connect({ socket: raw, servername: "localhost", ca }));
  },

  async send(size) {
    const data = stretch(sent, Number(size));
    sent += data.length;
    await new Promise((resolve, reject) =>
      socket.write(data, (e) => (e ? reject(e) : resolve())),
    );
    return "sent";
  },

  async receive(size) {
    const before = received;
    while (size === undefined || received - before < Number(size)) {
      const data = socket.read();
      if (data) {
        if (!data.equals(stretch(received, data.length))) throw Error("not what was sent");
        received += data.length;
      } else if (error || socket.readableEnded) {
        return end(received - before);
      } else {
        await something();
      }
    }
    return `received ${size}`;
  },

  async "half-close"() {
    await new Promise((resolve) => socket.end(resolve));
    return "done";
  },

  async shutdown() {
    socket.end();
    const answer = await commands.receive();
    socket.destroy();
    return answer;
  },

  close() {
    socket.destroySoon(); // when all has been written, close_notify too
    return closed();
  },

  "close-transport"() {
    socket.destroy();
    return closed();
  },

  async "cut-inside"() {
    await new Promise((resolve) => raw.write(PART_OF_A_RECORD, resolve));
    return commands["close-transport"]();
  },

  reset() {
    raw.resetAndDestroy();
    return closed();
  },
};

async function closed() {
  while (!socket.closed) await something();
  return "done";
}

server.listen(0, "127.0.0.1", async () => {
  const { node, openssl } = process.versions;
  console.log(`listening ${server.address().port} Node.js ${node} with OpenSSL ${openssl}`);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [command, ...words] = line.split(" ");
    try {
      console.log(await commands[command](...words));
    } catch (e) {
      console.log(`failed ${e.code} ${e.message}`);
    }
  }
  process.exit();
});
