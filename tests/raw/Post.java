// Posts with the JDK's HTTP client as it comes: it asks for HTTP/2 by `Upgrade: h2c` in every request without TLS.
// Run: java Post.java URL KEY BODY [chunked]. Prints the status and the answer.

import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;

public class Post {
    public static void main(String[] arguments) throws Exception {
        byte[] body = arguments[2].getBytes("UTF-8");
        BodyPublisher publisher = arguments.length > 3
                ? BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body))
                : BodyPublishers.ofByteArray(body);
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("Authorization", "Bearer " + arguments[1])
                .header("Content-Type", "application/json")
                .POST(publisher)
                .build();
        HttpResponse<String> response = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
        System.out.println(response.statusCode() + " " + response.body());
    }
}
