// Send every event type, read all pages of a list, acknowledge a case, and read the problem of a refused command.
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.EscalationsApi;
import org.openapitools.client.api.EventsApi;
import org.openapitools.client.api.FeedbackApi;
import org.openapitools.client.model.*;

public class Tour {
    public static void main(String[] arguments) throws Exception {
        var client = new ApiClient();
        client.updateBaseUri(System.getenv("TOUCHPOINT_URL"));
        client.setRequestInterceptor(
            request -> request.header("Authorization", "Bearer " + System.getenv("TOUCHPOINT_API_KEY")));
        var eventsApi = new EventsApi(client);
        var feedbackApi = new FeedbackApi(client);
        var escalationsApi = new EscalationsApi(client);
        ObjectMapper json = client.getObjectMapper();

        var opened = new TicketOpenedEvent()
            .specversion(TicketOpenedEvent.SpecversionEnum._1_0)
            .id("written-by-hand")
            .source("/tour")
            .type(TicketOpenedEvent.TypeEnum.TICKET_OPENED)
            .data(new TicketOpened().ticketId("T-1").customerId("C-1").channel(Channel.EMAIL));
        eventsApi.sendEvent(new CloudEvent(opened));

        var events = json.readValue(Path.of(System.getenv("EVENTS")).toFile(), CloudEvent[].class);
        for (var event : events) {
            eventsApi.sendEvent(event);
        }
        var batch = eventsApi.sendBatch(List.of(events));

        int listed = 0;
        String cursor = null;
        do {
            var page = feedbackApi.listFeedback(
                null, null, null, null, 2, cursor, null, null, List.of("C-list"), null, null, null, null, null, null);
            listed += page.getItems().size();
            cursor = page.getNextCursor();
        } while (cursor != null);

        var id = UUID.fromString(System.getenv("CASE"));
        var acknowledged = escalationsApi.acknowledgeEscalation(id, null, new Acknowledgement().by("Maria"));
        escalationsApi.resolveEscalation(id, null, null);
        Problem problem = null;
        try {
            escalationsApi.acknowledgeEscalation(id, null, null);
        } catch (ApiException error) {
            problem = json.readValue(error.getResponseBody(), Problem.class);
        }

        System.out.println(json.writeValueAsString(Map.of(
            "sent", events.length, "batch", batch.getAccepted().size(), "listed", listed,
            "state", acknowledged.getState(), "problem", problem.getType())));
    }
}
