// A lab: Deno, whose TLS is rustls.

const [certificate, key, ca] = Deno.args.map((name) => Deno.readTextFileSync(name));
const HOST = "127.0.0.1";
const PERIOD = 251;
// A header that promises 256 bytes, and some of them: RFC 9846 section 5.1.
const PART_OF_A_RECORD = new Uint8Array(25);
PART_OF_A_RECORD.set([0x17, 3, 3, 1, 0]);

// Deno does not give access to the socket under a TlsConn; the C library does.
const libc = Deno.dlopen("libc.so.6", {
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getpeername: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  open: { parameters: ["buffer", "i32"], result: "i32" },
  dup2: { parameters: ["i32", "i32"], result: "i32" },
}).symbols;
const SOL_SOCKET = 1, SO_LINGER = 13;
const nothing = libc.open(new TextEncoder().encode("/dev/null\0"), 0);

const listener = Deno.listenTls({ hostname: HOST, port: 0, cert: certificate, key });
let conn: Deno.TlsConn;
let sent = 0, received = 0;

async function handshake(secured: Deno.TlsConn) {
  conn = secured;
  sent = received = 0;
  await conn.handshake();
  return "handshaken";
}

function stretch(start: number, size: number) {
  const data = new Uint8Array(size);
  for (let i = 0; i < size; i++) data[i] = (start + i) % PERIOD;
  return data;
}

function kind(error: unknown) {
  if (error instanceof Deno.errors.UnexpectedEof) return "cut";
  return error instanceof Deno.errors.ConnectionReset ? "reset" : "error";
}

const buffer = new Uint8Array(2 ** 16);

// Reads at most this much, and returns whether anything came.
async function read(left: number) {
  const size = await conn.read(buffer.subarray(0, left));
  if (size === null) return false;
  const right = stretch(received, size);
  if (buffer.subarray(0, size).some((byte, i) => byte !== right[i])) {
    throw Error("not what was sent");
  }
  received += size;
  return true;
}

async function receiveToTheEnd() {
  const before = received;
  try {
    while (await read(buffer.length));
  } catch (error) {
    return `end ${kind(error)} ${received - before} ${error}`;
  }
  return `end clean ${received - before}`;
}

function fd() {
  const ours = conn.localAddr.port, its = conn.remoteAddr.port;
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    const number = Number(name);
    if (port(libc.getsockname, number) === ours && port(libc.getpeername, number) === its) {
      return number;
    }
  }
  throw Error("no such socket");
}

function port(call: typeof libc.getsockname, number: number) {
  const address = new Uint8Array(16);
  return call(number, address, new Uint32Array([16])) === 0
    ? new DataView(address.buffer).getUint16(2)
    : 0;
}

// Closes the socket, and leaves Deno another one to close.
function closeTransport(number: number) {
  libc.dup2(nothing, number);
  conn.close();
  return "done";
}

const commands: Record<string, (size: string) => Promise<string> | string> = {
  accept: async () => handshake(await listener.accept()),

  async connect(to) {
    const raw = await Deno.connect({ hostname: HOST, port: Number(to) });
    return handshake(await Deno.startTls(raw, { hostname: "localhost", caCerts: [ca] }));
  },

  async send(size) {
    let data = stretch(sent, Number(size));
    sent += data.length;
    while (data.length) data = data.subarray(await conn.write(data));
    return "sent";
  },

  async receive(size) {
    if (size === undefined) return receiveToTheEnd();
    const until = received + Number(size);
    while (received < until) {
      if (!(await read(Math.min(buffer.length, until - received)))) throw Error("an early end");
    }
    return `received ${size}`;
  },

  async "half-close"() {
    await conn.closeWrite();
    return "done";
  },

  async shutdown() {
    await conn.closeWrite();
    const answer = await receiveToTheEnd();
    conn.close();
    return answer;
  },

  close() {
    conn.close();
    return "done";
  },

  "close-transport": () => closeTransport(fd()),

  "cut-inside"() {
    const number = fd();
    libc.send(number, PART_OF_A_RECORD, BigInt(PART_OF_A_RECORD.length), 0);
    return closeTransport(number);
  },

  reset() {
    const number = fd();
    libc.setsockopt(number, SOL_SOCKET, SO_LINGER, new Int32Array([1, 0]), 8);
    return closeTransport(number);
  },
};

console.log(`listening ${listener.addr.port} Deno ${Deno.version.deno}`);
let text = "";
for await (const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (text + chunk).split("\n");
  text = lines.pop()!;
  for (const line of lines) {
    const [command, size] = line.split(" ");
    try {
      console.log(await commands[command](size));
    } catch (error) {
      console.log(`failed ${kind(error)} ${error}`);
    }
  }
}
Deno.exit();
