// What looks like SMTP and is as fast as we can make it on Bun.listen: fixed replies, nothing is
// checked or kept. An anchor for what is built on the same sockets, and no product.
// See blocksmtp_server.py for what all server programs here have in common.

const settings = JSON.parse(process.argv[2]);
const END = Buffer.from("\r\n.\r\n");
const OK = "250 2.0.0 OK\r\n";
const D = "D".charCodeAt(0);
const E = "E".charCodeAt(0);
const Q = "Q".charCodeAt(0);

// Where the body ends in `chunk`, or -1; `tail` is what came last before it, 4 octets at most.
function end(tail, chunk) {
  const seam = Buffer.concat([tail, chunk.subarray(0, END.length - 1)]).indexOf(END);
  if (seam >= 0) return seam + END.length - tail.length;
  const found = chunk.indexOf(END);
  return found < 0 ? -1 : found + END.length;
}

function data(socket, chunk) {
  const state = socket.data;
  let replies = "";
  let at = 0;
  if (state.rest) {
    chunk = Buffer.concat([state.rest, chunk]);
    state.rest = null;
  }
  while (at < chunk.length) {
    if (state.tail) {
      const body = at ? chunk.subarray(at) : chunk;
      const found = end(state.tail, body);
      if (found < 0) {
        const seen = body.length < 4 ? Buffer.concat([state.tail, body]) : body;
        state.tail = Buffer.from(seen.subarray(-4));
        break;
      }
      state.tail = null;
      at += found;
      replies += OK;
      continue;
    }
    const lineEnd = chunk.indexOf(10, at);
    if (lineEnd < 0) {
      state.rest = Buffer.from(chunk.subarray(at));
      break;
    }
    const verb = chunk[at] & ~32; // in either case
    if (verb === D) {
      // The CRLF before the mark may be that of the command.
      state.tail = Buffer.from("\r\n");
      replies += "354 Go on\r\n";
    } else if (verb === E) replies += "250-mx.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n";
    else if (verb === Q) state.quit = true;
    else replies += OK;
    at = lineEnd + 1;
  }
  if (state.quit) socket.end(replies + "221 Bye\r\n");
  else if (replies) socket.write(replies);
}

const greet = (socket) => socket.write("220 mx.example ESMTP\r\n");

const server = Bun.listen({
  hostname: "127.0.0.1",
  port: 0,
  tls: settings.secure
    ? { cert: Bun.file(settings.certificate), key: Bun.file(settings.key) }
    : undefined,
  socket: {
    open(socket) {
      socket.data = { tail: null, rest: null, quit: false };
      if (!settings.secure) greet(socket);
    },
    handshake: greet,
    data,
    error() {},
  },
});
console.log(server.port);

process.on("SIGTERM", () => process.exit(0));
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
