"""Send every event type, read all pages of a list, acknowledge a case, and read the problem of a refused command."""

import json
import os
from pathlib import Path
from uuid import UUID

from touchpoint_client import AuthenticatedClient, models
from touchpoint_client.api.escalations import acknowledge_escalation, resolve_escalation
from touchpoint_client.api.events import send_batch, send_event
from touchpoint_client.api.feedback import list_feedback
from touchpoint_client.types import UNSET

TYPES = {
    "customer.updated": models.CustomerUpdatedEvent,
    "feedback.submitted": models.FeedbackSubmittedEvent,
    "interaction.recorded": models.InteractionRecordedEvent,
    "subscription.changed": models.SubscriptionChangedEvent,
    "team_feedback.submitted": models.TeamFeedbackSubmittedEvent,
    "ticket.opened": models.TicketOpenedEvent,
    "ticket.replied": models.TicketRepliedEvent,
    "ticket.status_changed": models.TicketStatusChangedEvent,
    "usage.reported": models.UsageReportedEvent,
}

client = AuthenticatedClient(base_url=os.environ["TOUCHPOINT_URL"], token=os.environ["TOUCHPOINT_API_KEY"])

opened = models.TicketOpenedEvent(
    specversion=models.TicketOpenedEventSpecversion.VALUE_0,
    id="written-by-hand",
    source="/tour",
    type_=models.TicketOpenedEventType.TICKET_OPENED,
    data=models.TicketOpened(ticket_id="T-1", customer_id="C-1", channel=models.Channel.EMAIL),
)
assert isinstance(send_event.sync(client=client, body=opened), models.EventTaken)

events = [TYPES[each["type"]].from_dict(each) for each in json.loads(Path(os.environ["EVENTS"]).read_text())]
sent = [send_event.sync(client=client, body=event) for event in events]
assert all(isinstance(answer, models.EventTaken) for answer in sent)
batch = send_batch.sync(client=client, body=events)
assert isinstance(batch, models.BatchReport)

count, cursor = 0, None
while count == 0 or cursor:
    page = list_feedback.sync(client=client, customer_id=["C-list"], limit=2, cursor=cursor or UNSET)
    assert isinstance(page, models.FeedbackPage)
    count, cursor = count + len(page.items), page.next_cursor

case = UUID(os.environ["CASE"])
acknowledged = acknowledge_escalation.sync(case, client=client, body=models.Acknowledgement(by="Maria"))
assert isinstance(acknowledged, models.EscalationRead)
resolve_escalation.sync(case, client=client)
problem = acknowledge_escalation.sync(case, client=client)
assert isinstance(problem, models.Problem)

result = {"sent": len(sent), "batch": len(batch.accepted), "listed": count}
print(json.dumps(result | {"state": acknowledged.state, "problem": problem.type_}))
