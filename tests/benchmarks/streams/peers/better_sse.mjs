// The same stream with Node and better-sse: one Redis subscription, one channel, every client a session of it.
// node better_sse.mjs PORT REDIS_URL CHANNEL; `ready` is printed when it listens. Packages are looked up in $BENCH_PEERS.
import { createRequire } from "node:module";
import http from "node:http";

const require = createRequire(`${process.env.BENCH_PEERS}/`);
const { createChannel, createSession } = require("better-sse");
const { createClient } = require("redis");

const [port, redisUrl, redisChannel] = process.argv.slice(2);
const channel = createChannel();
let sequence = 0;

const subscriber = createClient({ url: redisUrl });
await subscriber.connect();
await subscriber.subscribe(redisChannel, (message) => {
  sequence += 1;
  channel.broadcast(JSON.parse(message), "signal", { eventId: String(sequence) });
});

const server = http.createServer(async (request, response) => {
  if (request.url === "/health") {
    response.setHeader("Content-Type", "application/json");
    response.end('{"status":"ok"}');
    return;
  }
  const session = await createSession(request, response);
  session.push({ timestamp: new Date().toISOString() }, "session_start", "0");
  channel.register(session);
});
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 }, () => console.log("ready"));
process.stdin.on("end", () => process.exit(0)).resume();
