// Send every event type, read all pages of a list, acknowledge a case, and read the problem of a refused command.
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

type CloudEvent = components["schemas"]["CloudEvent"];

const { TOUCHPOINT_URL, TOUCHPOINT_API_KEY, EVENTS, CASE } = process.env as Record<string, string>;
const client = createClient<paths>({
  baseUrl: TOUCHPOINT_URL,
  headers: { Authorization: `Bearer ${TOUCHPOINT_API_KEY}` },
});
const EVENT = { "Content-Type": "application/cloudevents+json" };
const BATCH = { "Content-Type": "application/cloudevents-batch+json" };

const opened: CloudEvent = {
  specversion: "1.0",
  id: "written-by-hand",
  source: "/tour",
  type: "ticket.opened",
  data: { ticket_id: "T-1", customer_id: "C-1", channel: "email", priority: "normal" },
};
await send(opened);

const events: CloudEvent[] = JSON.parse(readFileSync(EVENTS, "utf8"));
let sent = 0;
for (const event of events) {
  await send(event);
  sent++;
}
const batch = await client.POST("/v1/batches", { body: events, headers: BATCH });
if (!batch.data) throw new Error(batch.error.detail ?? batch.error.title);

let listed = 0;
let cursor: string | undefined;
do {
  const page = await client.GET("/v1/feedback", { params: { query: { customer_id: ["C-list"], limit: 2, cursor } } });
  if (!page.data) throw new Error(page.error.detail ?? page.error.title);
  listed += page.data.items.length;
  cursor = page.data.next_cursor ?? undefined;
} while (cursor);

const params = { path: { escalation_id: CASE } };
const acknowledged = await client.POST("/v1/escalations/{escalation_id}/acknowledge", { params, body: { by: "Maria" } });
await client.POST("/v1/escalations/{escalation_id}/resolve", { params });
const refused = await client.POST("/v1/escalations/{escalation_id}/acknowledge", { params });

const state = acknowledged.data?.state;
const problem = refused.error?.type;
console.log(JSON.stringify({ sent, batch: batch.data.accepted.length, listed, state, problem }));

async function send(event: CloudEvent) {
  const { data, error } = await client.POST("/v1/events", { body: event, headers: EVENT });
  if (!data) throw new Error(error.detail ?? error.title);
  return data.status_url;
}
