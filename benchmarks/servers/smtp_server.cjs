// smtp-server, on Node or on Bun, with its default options but for authentication, reverse lookups
// and the log. See blocksmtp_server.py for what all server programs here have in common.
"use strict";

const fs = require("node:fs");
const { SMTPServer } = require("smtp-server");

const settings = JSON.parse(process.argv[2]);

// What a call that blocks does here: nothing else runs meanwhile.
function block() {
  if (settings.sleep) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, settings.sleep * 1000);
  }
}

const server = new SMTPServer({
  name: "mx.example",
  secure: settings.secure,
  cert: fs.readFileSync(settings.certificate),
  key: fs.readFileSync(settings.key),
  authOptional: true,
  disableReverseLookup: true,
  logger: false,
  onData(stream, session, callback) {
    stream.on("end", () => {
      block();
      callback();
    });
    stream.resume();
  },
});

// A client that leaves is no reason to stop.
server.on("error", () => {});
const listener = server.listen(0, "127.0.0.1", () => console.log(listener.address().port));

process.on("SIGTERM", () => process.exit(0));
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
