"""Send every event type, read all pages of a list, acknowledge a case, and read the problem of a refused command."""

import json
import os
from pathlib import Path
from uuid import UUID

import openapi_client as touchpoint
from openapi_client.exceptions import ConflictException

configuration = touchpoint.Configuration(
    host=os.environ["TOUCHPOINT_URL"], access_token=os.environ["TOUCHPOINT_API_KEY"]
)
client = touchpoint.ApiClient(configuration)
events_api, feedback_api = touchpoint.EventsApi(client), touchpoint.FeedbackApi(client)
escalations_api = touchpoint.EscalationsApi(client)

opened = touchpoint.TicketOpenedEvent(
    specversion="1.0",
    id="written-by-hand",
    source="/tour",
    type="ticket.opened",
    data=touchpoint.TicketOpened(ticket_id="T-1", customer_id="C-1", channel=touchpoint.Channel.EMAIL),
)
events_api.send_event(touchpoint.CloudEvent(opened))

given = json.loads(Path(os.environ["EVENTS"]).read_text())
events = [touchpoint.CloudEvent.from_json(json.dumps(each)) for each in given]
sent = [events_api.send_event(event) for event in events]
batch = events_api.send_batch(events)

count, cursor = 0, None
while count == 0 or cursor:
    page = feedback_api.list_feedback(customer_id=["C-list"], limit=2, cursor=cursor)
    count, cursor = count + len(page.items), page.next_cursor

case = UUID(os.environ["CASE"])
acknowledged = escalations_api.acknowledge_escalation(case, acknowledgement=touchpoint.Acknowledgement(by="Maria"))
escalations_api.resolve_escalation(case)
try:
    escalations_api.acknowledge_escalation(case)
except ConflictException as error:
    problem = touchpoint.Problem.from_json(error.body)

result = {"sent": len(sent), "batch": len(batch.accepted), "listed": count}
print(json.dumps(result | {"state": acknowledged.state, "problem": problem.type}))
