// Follows a stream with the package `eventsource`, and prints a JSON line for each event that it is given.
// node eventsource.cjs URL; the package is looked up in $PEERS. Ends with its stdin.
const { createRequire } = require("node:module");
const { EventSource } = createRequire(`${process.env.PEERS}/`)("eventsource");

const source = new EventSource(process.argv[2]);
const tell = (event) => console.log(JSON.stringify({ event: event.type, id: event.lastEventId, data: event.data }));
source.addEventListener("session_start", tell);
source.addEventListener("signal", tell);
source.addEventListener("error", () => {
  if (source.readyState === EventSource.CLOSED) console.log(JSON.stringify({ event: "gave up" }));
});
process.stdin.on("end", () => process.exit(0)).resume();
