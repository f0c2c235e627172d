// Send every event type, read all pages of a list, acknowledge a case, and read the problem of a refused command.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/google/uuid"

	"tour/api"
)

func main() {
	ctx := context.Background()
	authorize := func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+os.Getenv("TOUCHPOINT_API_KEY"))
		return nil
	}
	client, err := api.NewClientWithResponses(os.Getenv("TOUCHPOINT_URL"), api.WithRequestEditorFn(authorize))
	must(err)
	send := func(event api.CloudEvent) {
		answer, err := client.SendEventWithApplicationCloudeventsPlusJSONBodyWithResponse(ctx, event)
		must(err)
		if answer.JSON202 == nil {
			log.Fatal(string(answer.Body))
		}
	}

	var opened api.CloudEvent
	must(opened.FromTicketOpenedEvent(api.TicketOpenedEvent{
		Specversion: "1.0",
		Id:          "written-by-hand",
		Source:      "/tour",
		Data:        api.TicketOpened{TicketId: "T-1", CustomerId: "C-1", Channel: api.ChannelEmail},
	}))
	send(opened)

	text, err := os.ReadFile(os.Getenv("EVENTS"))
	must(err)
	var events []api.CloudEvent
	must(json.Unmarshal(text, &events))
	for _, event := range events {
		send(typed(event))
	}
	batch, err := client.SendBatchWithApplicationCloudeventsBatchPlusJSONBodyWithResponse(ctx, events)
	must(err)

	listed, customer, limit := 0, []string{"C-list"}, 2
	var cursor *string
	for {
		query := api.ListFeedbackParams{CustomerId: &customer, Limit: &limit, Cursor: cursor}
		page, err := client.ListFeedbackWithResponse(ctx, &query)
		must(err)
		listed += len(page.JSON200.Items)
		if cursor = page.JSON200.NextCursor; cursor == nil {
			break
		}
	}

	id, by := uuid.MustParse(os.Getenv("CASE")), "Maria"
	acknowledge := func() *api.AcknowledgeEscalationResponse {
		answer, err := client.AcknowledgeEscalationWithResponse(ctx, id, nil, api.Acknowledgement{By: &by})
		must(err)
		return answer
	}
	acknowledged := acknowledge()
	_, err = client.ResolveEscalationWithResponse(ctx, id, nil, api.Resolution{})
	must(err)
	refused := acknowledge()

	must(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"sent": len(events), "batch": len(batch.JSON202.Accepted), "listed": listed,
		"state": acknowledged.JSON200.State, "problem": refused.ApplicationproblemJSON409.Type,
	}))
}

// Typed reads an event as its type and writes it again.
func typed(event api.CloudEvent) api.CloudEvent {
	found, err := event.ValueByDiscriminator()
	must(err)
	text, err := json.Marshal(found)
	must(err)
	var again api.CloudEvent
	must(json.Unmarshal(text, &again))
	return again
}

func must(err error) {
	if err != nil {
		log.Fatal(fmt.Errorf("tour: %w", err))
	}
}
