// The lab: tests/interop/README.md has its protocol.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

const period = 251

// A header that promises 256 bytes, and some of them: RFC 9846 section 5.1.
var partOfARecord = append([]byte{0x17, 3, 3, 1, 0}, make([]byte, 20)...)

type lab struct {
	listener       net.Listener
	server, client *tls.Config
	raw            *net.TCPConn
	conn           *tls.Conn
	sent, received int
}

func playLab(certificate, key, ca string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	l := &lab{
		listener: listener,
		server:   serverConfig(certificate, key),
		client:   clientConfig(ca, "localhost"),
	}
	port := listener.Addr().(*net.TCPAddr).Port
	fmt.Println("listening", port, "Go", strings.TrimPrefix(runtime.Version(), "go"))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		answer, err := l.do(words[0], words[1:])
		if err != nil {
			answer = fmt.Sprint("failed ", kind(err), " ", err)
		}
		fmt.Println(answer)
	}
}

func (l *lab) do(command string, words []string) (string, error) {
	number := 0
	if len(words) > 0 {
		number, _ = strconv.Atoi(words[0])
	}
	switch command {
	case "accept":
		raw, err := l.listener.Accept()
		must(err)
		return l.handshake(raw, tls.Server(raw, l.server))
	case "connect":
		raw, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", number))
		must(err)
		return l.handshake(raw, tls.Client(raw, l.client))
	case "send":
		_, err := l.conn.Write(stretch(l.sent, number))
		l.sent += number
		return "sent", err
	case "receive":
		if len(words) > 0 {
			return l.receive(number)
		}
		return l.receiveToTheEnd()
	case "half-close":
		return "done", l.conn.CloseWrite()
	case "shutdown":
		// Close does not wait.
		if err := l.conn.CloseWrite(); err != nil {
			return "", err
		}
		answer, err := l.receiveToTheEnd()
		l.conn.Close()
		return answer, err
	case "close":
		return "done", l.conn.Close()
	case "close-transport":
		return "done", l.raw.Close()
	case "cut-inside":
		l.raw.Write(partOfARecord)
		return "done", l.raw.Close()
	case "reset":
		l.raw.SetLinger(0)
		return "done", l.raw.Close()
	}
	return "", errors.New("what is " + command)
}

func (l *lab) handshake(raw net.Conn, conn *tls.Conn) (string, error) {
	l.raw, l.conn = raw.(*net.TCPConn), conn
	l.sent, l.received = 0, 0
	err := conn.Handshake()
	return "handshaken " + strings.Replace(tls.VersionName(conn.ConnectionState().Version), " ", "v", 1), err
}

func (l *lab) receive(size int) (string, error) {
	data := make([]byte, size)
	if _, err := io.ReadFull(l.conn, data); err != nil {
		return "", err
	}
	return fmt.Sprint("received ", size), l.compare(data)
}

func (l *lab) receiveToTheEnd() (string, error) {
	before := l.received
	data := make([]byte, 1<<16)
	for {
		n, err := l.conn.Read(data)
		if wrong := l.compare(data[:n]); wrong != nil {
			return "", wrong
		}
		if err == io.EOF {
			return fmt.Sprint("end clean ", l.received-before), nil
		}
		if err != nil {
			return fmt.Sprint("end ", kind(err), " ", l.received-before, " ", err), nil
		}
	}
}

func (l *lab) compare(data []byte) error {
	if !bytes.Equal(data, stretch(l.received, len(data))) {
		return errors.New("not what was sent")
	}
	l.received += len(data)
	return nil
}

func stretch(start, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte((start + i) % period)
	}
	return data
}

func kind(err error) string {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "cut"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	}
	return "error"
}
