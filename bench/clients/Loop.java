// Java's HttpClient in a loop: see bench/lib/real-clients.ts.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Collectors;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509TrustManager;

public class Loop {
  static final Map<String, Integer> errors = new TreeMap<>();
  static final AtomicLong number = new AtomicLong();
  static final AtomicLong answered = new AtomicLong();

  public static void main(String[] args) throws Exception {
    String origin = args[0];
    long until = System.nanoTime() + (long) (Double.parseDouble(args[1]) * 1e9);
    Thread[] workers = new Thread[Integer.parseInt(args[2])];
    int serviceMs = Integer.parseInt(args[3]);
    HttpClient client = HttpClient.newBuilder().sslContext(trustingAnyone()).version(HttpClient.Version.HTTP_2).build();
    // Workers that start at the same moment would each open a connection, of which one is kept.
    fetch(client, origin, 0);
    for (int i = 0; i < workers.length; i++) {
      workers[i] = new Thread(() -> {
        while (System.nanoTime() < until) fetch(client, origin, serviceMs);
      });
      workers[i].start();
    }
    for (Thread worker : workers) worker.join();
    System.out.printf("{\"sent\":%d,\"answered\":%d,\"errors\":{%s}}%n", number.get(), answered.get(),
        errors.entrySet().stream()
            .map(e -> "\"" + e.getKey().replaceAll("[\"\\\\\\p{Cntrl}]", " ") + "\":" + e.getValue())
            .collect(Collectors.joining(",")));
    System.exit(0);
  }

  static void fetch(HttpClient client, String origin, int serviceMs) {
    long n = number.incrementAndGet();
    int service = ThreadLocalRandom.current().nextInt(serviceMs + 1);
    boolean isUpload = n % 4 == 0;
    byte[] upload = new byte[5000];
    HttpRequest.Builder request = HttpRequest
        .newBuilder(URI.create(origin + (isUpload ? "/upload/" : "/small/") + n + "/" + service))
        .timeout(Duration.ofSeconds(10));
    if (isUpload) request.POST(HttpRequest.BodyPublishers.ofByteArray(upload));
    try {
      String body = client.send(request.build(), HttpResponse.BodyHandlers.ofString()).body();
      if (body.equals(isUpload ? "ok " + n + " " + upload.length : "ok " + n)) answered.incrementAndGet();
      else failed("wrong answer");
    } catch (Exception error) {
      failed(error.toString());
    }
  }

  static synchronized void failed(String message) {
    // Messages with counters in them are one kind of error.
    errors.merge(message.replaceAll("[0-9]+", "N"), 1, Integer::sum);
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
