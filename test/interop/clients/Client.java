// A visit by java.net.http.HttpClient: see visit.ts. It shows no trailers of responses and sends none.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509TrustManager;

public class Client {
  static final Map<String, Integer> protocols = new TreeMap<>();
  static final List<String> failures = new ArrayList<>();

  public static void main(String[] args) throws Exception {
    String origin = args[0];
    boolean h2 = args[1].equals("h2");
    int requests = Integer.parseInt(args[2]);
    Semaphore atATime = new Semaphore(Integer.parseInt(args[3]));
    byte[] upload = new byte[Integer.parseInt(args[4])];
    for (int i = 0; i < upload.length; i++) upload[i] = (byte) (i * 7);
    HttpClient client = HttpClient.newBuilder()
        .sslContext(trustingAnyone())
        .version(h2 ? HttpClient.Version.HTTP_2 : HttpClient.Version.HTTP_1_1)
        .build();

    String hello = new String(client.send(get(origin, "/hello/first"), HttpResponse.BodyHandlers.ofByteArray()).body());
    HttpResponse<byte[]> echo = client.send(
        HttpRequest.newBuilder(URI.create(origin + "/echo"))
            .POST(HttpRequest.BodyPublishers.ofByteArray(upload)).build(),
        HttpResponse.BodyHandlers.ofByteArray());
    noted(echo.version());
    int echoed = Arrays.equals(echo.body(), upload) ? echo.body().length : 0;

    AtomicInteger answered = new AtomicInteger();
    List<CompletableFuture<?>> all = new ArrayList<>();
    for (int n = 0; n < requests; n++) {
      String number = Integer.toString(n);
      atATime.acquire();
      all.add(client.sendAsync(get(origin, "/hello/" + number), HttpResponse.BodyHandlers.ofString())
          .whenComplete((response, error) -> {
            atATime.release();
            if (error != null) failed(error);
            else {
              noted(response.version());
              if (response.body().equals("hello " + number)) answered.incrementAndGet();
            }
          })
          .exceptionally(error -> null));
    }
    for (CompletableFuture<?> one : all) one.join();
    System.out.printf("{\"protocols\":{%s},\"hello\":\"%s\",\"echoed\":%d,\"answered\":%d,\"trailer\":null,\"failures\":[%s]}%n",
        protocols.entrySet().stream().map(e -> "\"" + e.getKey() + "\":" + e.getValue()).collect(Collectors.joining(",")),
        hello, echoed, answered.get(),
        failures.stream().map(f -> "\"" + f.replace("\\", "\\\\").replace("\"", "'").replace("\n", " ") + "\"")
            .collect(Collectors.joining(",")));
    System.exit(0);
  }

  static HttpRequest get(String origin, String path) {
    return HttpRequest.newBuilder(URI.create(origin + path)).build();
  }

  static synchronized void noted(HttpClient.Version version) {
    protocols.merge(version.toString(), 1, Integer::sum);
  }

  static synchronized void failed(Throwable error) {
    failures.add(error.toString());
  }

  static SSLContext trustingAnyone() throws Exception {
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, new TrustManager[] {new X509TrustManager() {
      public void checkClientTrusted(X509Certificate[] chain, String type) {}
      public void checkServerTrusted(X509Certificate[] chain, String type) {}
      public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
    }}, null);
    return context;
  }
}
