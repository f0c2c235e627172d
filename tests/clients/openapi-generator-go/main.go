// Send every event type, read all pages of a list, acknowledge a case, and read the problem of a refused command.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"

	touchpoint "github.com/touchpoint/client"
)

func main() {
	ctx := context.WithValue(context.Background(), touchpoint.ContextAccessToken, os.Getenv("TOUCHPOINT_API_KEY"))
	configuration := touchpoint.NewConfiguration()
	configuration.Servers = touchpoint.ServerConfigurations{{URL: os.Getenv("TOUCHPOINT_URL")}}
	client := touchpoint.NewAPIClient(configuration)
	send := func(event touchpoint.CloudEvent) {
		_, _, err := client.EventsAPI.SendEvent(ctx).CloudEvent(event).Execute()
		must(err)
	}

	data := touchpoint.NewTicketOpened("T-1", "C-1", touchpoint.CHANNEL_EMAIL)
	opened := touchpoint.NewTicketOpenedEvent("1.0", "written-by-hand", "/tour", "ticket.opened", *data)
	send(touchpoint.TicketOpenedEventAsCloudEvent(opened))

	text, err := os.ReadFile(os.Getenv("EVENTS"))
	must(err)
	var events []touchpoint.CloudEvent
	must(json.Unmarshal(text, &events))
	for _, event := range events {
		send(event)
	}
	batch, _, err := client.EventsAPI.SendBatch(ctx).CloudEvent(events).Execute()
	must(err)

	listed, question := 0, client.FeedbackAPI.ListFeedback(ctx).CustomerId([]string{"C-list"}).Limit(2)
	for {
		page, _, err := question.Execute()
		must(err)
		listed += len(page.Items)
		cursor := page.NextCursor.Get()
		if cursor == nil {
			break
		}
		question = question.Cursor(*cursor)
	}

	id := os.Getenv("CASE")
	by := touchpoint.Acknowledgement{}
	by.SetBy("Maria")
	acknowledged, _, err := client.EscalationsAPI.AcknowledgeEscalation(ctx, id).Acknowledgement(by).Execute()
	must(err)
	_, _, err = client.EscalationsAPI.ResolveEscalation(ctx, id).Execute()
	must(err)
	_, _, err = client.EscalationsAPI.AcknowledgeEscalation(ctx, id).Execute()
	var refused *touchpoint.GenericOpenAPIError
	if !errors.As(err, &refused) {
		log.Fatal("the command was not refused")
	}

	must(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"sent": len(events), "batch": len(batch.Accepted), "listed": listed,
		"state": acknowledged.State, "problem": refused.Model().(touchpoint.Problem).Type,
	}))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
