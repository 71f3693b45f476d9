// A lab: Java, JSSE.

import java.io.DataInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Arrays;
import java.util.Base64;
import java.util.HexFormat;
import java.util.Scanner;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

class Lab {
    static final int PERIOD = 251;
    static final InetAddress HOST = InetAddress.getLoopbackAddress();

    // A header that promises 256 bytes, and some of them: RFC 9846 section 5.1.
    static final byte[] PART_OF_A_RECORD = Arrays.copyOf(new byte[] {0x17, 3, 3, 1, 0}, 25);

    // Java reads keys in PKCS #8 only: RFC 5958. This comes before one of RFC 5915, on P-256.
    static final byte[] PKCS8_PREFIX =
            HexFormat.of().parseHex("308193020100301306072a8648ce3d020106082a8648ce3d0301070479");

    final SSLContext context;
    final ServerSocket listener;
    Socket raw; // under it
    SSLSocket socket;
    int sent, received;

    Lab(String certificate, String key, String ca) throws Exception {
        context = context(certificate, key, ca);
        listener = new ServerSocket(0, 1, HOST);
    }

    public static void main(String[] files) throws Exception {
        Lab lab = new Lab(files[0], files[1], files[2]);
        System.out.println(
                "listening " + lab.listener.getLocalPort() + " Java " + Runtime.version());
        for (Scanner lines = new Scanner(System.in); lines.hasNextLine(); ) {
            System.out.println(lab.answer(lines.nextLine().split(" ")));
        }
    }

    String answer(String[] words) {
        try {
            return execute(words[0], words.length > 1 ? Integer.parseInt(words[1]) : -1);
        } catch (IOException e) {
            return "failed " + kind(e) + " " + e.getMessage();
        }
    }

    String execute(String command, int number) throws IOException {
        switch (command) {
            case "accept":
                raw = listener.accept();
                socket = (SSLSocket) context.getSocketFactory().createSocket(raw, null, true);
                return handshake();
            case "connect":
                raw = new Socket(HOST, number);
                socket =
                        (SSLSocket)
                                context.getSocketFactory()
                                        .createSocket(raw, "localhost", number, true);
                SSLParameters parameters = socket.getSSLParameters();
                parameters.setEndpointIdentificationAlgorithm("HTTPS");
                socket.setSSLParameters(parameters);
                return handshake();
            case "send":
                socket.getOutputStream().write(stretch(sent, number));
                sent += number;
                return "sent";
            case "receive":
                return number < 0 ? receive() : receive(number);
            case "half-close":
                socket.shutdownOutput();
                return "done";
            case "shutdown":
                // close() does not wait.
                socket.shutdownOutput();
                String end = receive();
                socket.close();
                return end;
            case "close":
                socket.close();
                return "done";
            case "close-transport":
                raw.close();
                return "done";
            case "cut-inside":
                raw.getOutputStream().write(PART_OF_A_RECORD);
                raw.close();
                return "done";
            case "reset":
                raw.setSoLinger(true, 0);
                raw.close();
                return "done";
            default:
                throw new IOException("what is " + command);
        }
    }

    String handshake() throws IOException {
        sent = received = 0;
        socket.startHandshake();
        return "handshaken " + socket.getSession().getProtocol();
    }

    String receive(int size) throws IOException {
        byte[] data = new byte[size];
        new DataInputStream(socket.getInputStream()).readFully(data);
        compare(data);
        return "received " + size;
    }

    String receive() throws IOException {
        int before = received;
        byte[] data = new byte[1 << 16];
        InputStream stream = socket.getInputStream();
        try {
            for (int size; (size = stream.read(data)) >= 0; ) {
                compare(Arrays.copyOf(data, size));
            }
        } catch (SocketException | SSLException e) {
            return "end " + kind(e) + " " + (received - before) + " " + e.getMessage();
        }
        return "end clean " + (received - before);
    }

    void compare(byte[] data) throws IOException {
        if (!Arrays.equals(data, stretch(received, data.length))) {
            throw new IOException("not what was sent");
        }
        received += data.length;
    }

    static byte[] stretch(int start, int size) {
        byte[] data = new byte[size];
        for (int i = 0; i < size; i++) {
            data[i] = (byte) ((start + i) % PERIOD);
        }
        return data;
    }

    static String kind(IOException e) {
        return "Connection reset".equals(e.getMessage()) ? "reset" : "error";
    }

    static SSLContext context(String certificate, String key, String ca) throws Exception {
        char[] none = {};
        KeyStore own = KeyStore.getInstance("PKCS12");
        own.load(null);
        own.setKeyEntry("own", privateKey(key), none, new Certificate[] {read(certificate)});
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(own, none);
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null);
        trusted.setCertificateEntry("ca", read(ca));
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(trusted);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    static Certificate read(String name) throws Exception {
        try (InputStream file = Files.newInputStream(Path.of(name))) {
            return CertificateFactory.getInstance("X.509").generateCertificate(file);
        }
    }

    static PrivateKey privateKey(String name) throws Exception {
        String pem = Files.readString(Path.of(name)).replaceAll("-----.*-----|\\s", "");
        byte[] key = Base64.getDecoder().decode(pem);
        byte[] whole = Arrays.copyOf(PKCS8_PREFIX, PKCS8_PREFIX.length + key.length);
        System.arraycopy(key, 0, whole, PKCS8_PREFIX.length, key.length);
        return KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(whole));
    }
}
