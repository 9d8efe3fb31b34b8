// bun-smtp, with its default options but for authentication and reverse lookups.
// See blocksmtp_server.py for what all server programs here have in common.

import fs from "node:fs";
import net from "node:net";
import { SMTPServer } from "bun-smtp";

const settings = JSON.parse(process.argv[2]);

function block() {
  if (settings.sleep) Bun.sleepSync(settings.sleep * 1000);
}

const server = new SMTPServer({
  name: "mx.example",
  secure: settings.secure,
  cert: fs.readFileSync(settings.certificate, "utf8"),
  key: fs.readFileSync(settings.key, "utf8"),
  authOptional: true,
  disableReverseLookup: true,
  onData(stream, session, callback) {
    stream.pipeTo(new WritableStream()).then(() => {
      block();
      callback(null);
    }, callback);
  },
});
server.on?.("error", () => {});

// What listen() returns and whether it tells the port is not documented: find a free one first.
const port = await new Promise((resolve) => {
  const probe = net.createServer().listen(0, "127.0.0.1", () => {
    const found = probe.address().port;
    probe.close(() => resolve(found));
  });
});
await server.listen(port, "127.0.0.1");
console.log(port);

process.on("SIGTERM", () => process.exit(0));
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
