// Send every event type, read all pages of a list, acknowledge a case, and read the problem of a refused command.
import { readFileSync } from "node:fs";
import {
  Channel,
  CloudEventFromJSON,
  Configuration,
  EscalationsApi,
  EventsApi,
  FeedbackApi,
  ProblemFromJSON,
  ResponseError,
  TicketOpenedEventSpecversionEnum,
  TicketOpenedEventTypeEnum,
} from "./client";

const { TOUCHPOINT_URL, TOUCHPOINT_API_KEY, EVENTS, CASE } = process.env as Record<string, string>;
const configuration = new Configuration({ basePath: TOUCHPOINT_URL, accessToken: TOUCHPOINT_API_KEY });
const eventsApi = new EventsApi(configuration);
const feedbackApi = new FeedbackApi(configuration);
const escalationsApi = new EscalationsApi(configuration);

await eventsApi.sendEvent({
  cloudEvent: {
    specversion: TicketOpenedEventSpecversionEnum._10,
    id: "written-by-hand",
    source: "/tour",
    type: TicketOpenedEventTypeEnum.TicketOpened,
    data: { ticketId: "T-1", customerId: "C-1", channel: Channel.Email },
  },
});

const events = (JSON.parse(readFileSync(EVENTS, "utf8")) as unknown[]).map(CloudEventFromJSON);
let sent = 0;
for (const cloudEvent of events) {
  await eventsApi.sendEvent({ cloudEvent });
  sent++;
}
const batch = await eventsApi.sendBatch({ cloudEvent: events });

let listed = 0;
let cursor: string | undefined;
do {
  const page = await feedbackApi.listFeedback({ customerId: ["C-list"], limit: 2, cursor });
  listed += page.items.length;
  cursor = page.nextCursor ?? undefined;
} while (cursor);

const acknowledged = await escalationsApi.acknowledgeEscalation({
  escalationId: CASE,
  acknowledgement: { by: "Maria" },
});
await escalationsApi.resolveEscalation({ escalationId: CASE });
let problem: string | undefined;
try {
  await escalationsApi.acknowledgeEscalation({ escalationId: CASE });
} catch (error) {
  if (!(error instanceof ResponseError)) throw error;
  problem = ProblemFromJSON(await error.response.json()).type;
}

console.log(JSON.stringify({ sent, batch: batch.accepted.length, listed, state: acknowledged.state, problem }));
